//! Why a store did not do what it was asked, told apart by what is to be done about it.

use std::fmt;
use std::io;

/// Where something failed, and what was said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The bucket and its endpoint, or the path.
    pub place: String,
    /// What the server or the system said.
    pub detail: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.place, self.detail)
    }
}

/// Why a store did not do what it was asked. Each sentence says what the operator can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A key outside the grammar: a bug of the caller, or an attack.
    #[error("`{0}` is not a key: use steps of a-z, A-Z, 0-9, ., _ and -, parted by /, none beginning with a dot")]
    Key(String),
    /// The configuration cannot work.
    #[error("the store cannot be used: {0}; correct [store] in the configuration")]
    Config(At),
    /// Nobody answers.
    #[error("the store cannot be reached: {0}; check that it runs, the network, and store.endpoint")]
    Unreachable(At),
    /// It did not answer in time.
    #[error("the store did not answer in time: {0}; check the uplink's bandwidth and the store's load")]
    Timeout(At),
    /// Too many requests, or it is overloaded.
    #[error("the store asks for fewer requests: {0}; uploads go on more slowly, ask for a higher quota if this lasts")]
    Throttled(At),
    /// The credentials are missing, wrong, expired, or do not permit this.
    #[error(
        "the store refuses the credentials: {0}; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile or role, \
         and that they permit PutObject, GetObject and DeleteObject of objects and ListBucket of the bucket, without which a store \
         refuses to say that there is no such object"
    )]
    Denied(At),
    /// The clocks are too far apart for signatures to hold.
    #[error("this machine's clock and the store's differ too much: {0}; synchronise the clock")]
    ClockSkew(At),
    /// There is no such bucket.
    #[error("the bucket does not exist: {0}; create it or correct store.bucket")]
    NoBucket(At),
    /// The bucket is in another region.
    #[error("the bucket is in another region: {0}; correct store.region")]
    WrongRegion(At),
    /// What is there is not what was to be replaced.
    #[error("the object was changed meanwhile: {0}; another process writes to the same place")]
    Changed(At),
    /// No space, or a quota is used up.
    #[error("the store is full: {0}; free space or inodes (df -h, df -i), or raise the quota")]
    Full(At),
    /// The directory may not be written to.
    #[error("the store may not be written to: {0}; mount it writable and give this user the right to write")]
    ReadOnly(At),
    /// The server is in trouble.
    #[error("the store has an internal error: {0}; uploads are tried again, see the store's own log if this lasts")]
    Server(At),
    /// The server does not accept this request.
    #[error("the store refuses the request: {0}; check that it is compatible with S3, and store.path_style")]
    Refused(At),
    /// The system's input or output failed in another way.
    #[error("reading or writing failed: {0}; check the disk")]
    Io(At),
}

impl StoreError {
    /// Waiting may mend it, with nobody doing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout(_) | Self::Throttled(_) | Self::Server(_) | Self::Io(_))
    }

    /// Somebody who does not wait for ever got no answer within `time`.
    #[must_use]
    pub fn slow(time: std::time::Duration) -> Self {
        let detail = format!("no answer within {} s", time.as_secs());
        Self::Timeout(At { place: "the store".to_owned(), detail })
    }

    /// A word for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Config(_) => "config",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::Throttled(_) => "throttled",
            Self::Denied(_) => "denied",
            Self::ClockSkew(_) => "clock_skew",
            Self::NoBucket(_) => "no_bucket",
            Self::WrongRegion(_) => "wrong_region",
            Self::Changed(_) => "changed",
            Self::Full(_) => "full",
            Self::ReadOnly(_) => "read_only",
            Self::Server(_) => "server",
            Self::Refused(_) => "refused",
            Self::Io(_) => "io",
        }
    }

    /// The error of a file operation at `place`.
    pub(super) fn from_io(place: impl fmt::Display, error: &io::Error) -> Self {
        let at = At { place: place.to_string(), detail: error.to_string() };
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(at),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly(at),
            _ => Self::Io(at),
        }
    }

    /// The error of a server that answered: its code where it gave one, else the HTTP status.
    pub(super) fn from_answer(code: &str, status: u16, at: At) -> Self {
        match code {
            "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests" => {
                Self::Throttled(at)
            }
            "RequestTimeTooSkewed" => Self::ClockSkew(at),
            "RequestTimeout" => Self::Timeout(at),
            "NoSuchBucket" => Self::NoBucket(at),
            "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => Self::WrongRegion(at),
            // These come with status 400.
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => Self::Denied(at),
            "PreconditionFailed" => Self::Changed(at),
            "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => Self::Full(at),
            _ => Self::from_status(status, at),
        }
    }

    fn from_status(status: u16, at: At) -> Self {
        match status {
            301 | 307 | 308 => Self::WrongRegion(at),
            401 | 403 => Self::Denied(at),
            404 => Self::NoBucket(at),
            408 => Self::Timeout(at),
            // Of two writes at one time one is to be tried again.
            409 => Self::Server(at),
            412 => Self::Changed(at),
            429 | 503 => Self::Throttled(at),
            501 => Self::Refused(at),
            507 => Self::Full(at),
            500..=599 => Self::Server(at),
            _ => Self::Refused(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        for (code, status, kind) in [
            ("SlowDown", 503, "throttled"),
            ("", 503, "throttled"),
            ("InternalError", 500, "server"),
            ("NoSuchBucket", 404, "no_bucket"),
            ("", 404, "no_bucket"),
            ("RequestTimeTooSkewed", 403, "clock_skew"),
            ("InvalidAccessKeyId", 403, "denied"),
            ("ExpiredToken", 400, "denied"),
            ("PermanentRedirect", 301, "wrong_region"),
            ("AuthorizationHeaderMalformed", 400, "wrong_region"),
            ("EntityTooLarge", 400, "refused"),
            ("NotImplemented", 501, "refused"),
            ("XMinioStorageFull", 507, "full"),
            ("PreconditionFailed", 412, "changed"),
            ("ConditionalRequestConflict", 409, "server"),
        ] {
            let at = At { place: "bucket `live`".to_owned(), detail: String::new() };
            assert_eq!(StoreError::from_answer(code, status, at).kind(), kind, "{code} {status}");
        }
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        for (kind, word) in [
            (io::ErrorKind::StorageFull, "full"),
            (io::ErrorKind::ReadOnlyFilesystem, "read_only"),
            (io::ErrorKind::PermissionDenied, "read_only"),
            (io::ErrorKind::NotADirectory, "io"),
        ] {
            assert_eq!(StoreError::from_io("/x", &kind.into()).kind(), word);
        }
    }
}
