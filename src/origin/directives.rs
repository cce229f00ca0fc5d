//! Delivery directives: what a player asks of a playlist by the query (RFC 8216bis, 6.2.5). All other keys are ignored.

use crate::live::{Msn, Position};

/// The directives of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn` and `_HLS_part`: the playlist is to hold this.
    pub wanted: Option<Position>,
    /// `_HLS_skip`: a delta update will do.
    pub skip: bool,
}

/// Directives that mean nothing; they are answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDirectives {
    /// RFC 8216bis, 6.2.5.2.
    #[error("_HLS_part needs _HLS_msn")]
    PartAlone,
    /// No decimal integer.
    #[error("{0} is not a decimal integer")]
    NotANumber(&'static str),
    /// Given more than once.
    #[error("{0} is given twice")]
    Twice(&'static str),
}

impl Directives {
    /// Reads a query.
    ///
    /// # Errors
    /// [`BadDirectives`].
    pub fn read(query: Option<&str>) -> Result<Self, BadDirectives> {
        let (mut msn, mut part, mut skip) = (None, None, None);
        for pair in query.unwrap_or_default().split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "_HLS_msn" => once("_HLS_msn", &mut msn, value)?,
                "_HLS_part" => once("_HLS_part", &mut part, value)?,
                "_HLS_skip" => once("_HLS_skip", &mut skip, value)?,
                _ => {}
            }
        }
        let msn = msn.map(|value| number("_HLS_msn", value)).transpose()?;
        let part: Option<u64> = part.map(|value| number("_HLS_part", value)).transpose()?;
        if msn.is_none() && part.is_some() {
            return Err(BadDirectives::PartAlone);
        }
        // A part that no segment could have is far beyond the last.
        let part = part.map(|part| u32::try_from(part).unwrap_or(u32::MAX));
        // `v2` is `YES` here, as `CAN-SKIP-DATERANGES` is not told (RFC 8216bis, 6.2.5.1).
        let skip = matches!(skip, Some("YES" | "v2"));
        Ok(Self { wanted: msn.map(|msn| Position { msn: Msn(msn), part }), skip })
    }

    /// The query that asks the same, in the one order that makes it one URL; none where nothing is asked.
    #[must_use]
    pub fn query(&self) -> Option<String> {
        let msn = self.wanted.map(|wanted| format!("_HLS_msn={}", wanted.msn));
        let part = self.wanted.and_then(|wanted| wanted.part).map(|part| format!("_HLS_part={part}"));
        let skip = self.skip.then(|| "_HLS_skip=YES".to_owned());
        let keys: Vec<String> = msn.into_iter().chain(part).chain(skip).collect();
        (!keys.is_empty()).then(|| keys.join("&"))
    }
}

fn once<'a>(key: &'static str, slot: &mut Option<&'a str>, value: &'a str) -> Result<(), BadDirectives> {
    if slot.replace(value).is_some() { Err(BadDirectives::Twice(key)) } else { Ok(()) }
}

fn number(key: &'static str, text: &str) -> Result<u64, BadDirectives> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BadDirectives::NotANumber(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The segment, the part, and whether a delta update will do.
    type Short = (Option<u64>, Option<u32>, bool);

    fn read(query: &str) -> Result<Short, BadDirectives> {
        let short = |d: Directives| (d.wanted.map(|p| p.msn.0), d.wanted.and_then(|p| p.part), d.skip);
        Directives::read(Some(query)).map(short)
    }

    #[test]
    fn what_is_asked_is_read() {
        assert_eq!(Directives::read(None), Ok(Directives::default()));
        assert_eq!(read(""), Ok((None, None, false)));
        assert_eq!(read("_HLS_msn=7"), Ok((Some(7), None, false)));
        assert_eq!(read("a=b&_HLS_part=2&_HLS_msn=7&_HLS_skip=YES&c"), Ok((Some(7), Some(2), true)));
        assert_eq!(read("_HLS_skip=v2"), Ok((None, None, true)));
        assert_eq!(read("_HLS_skip=no&_hls_msn=x"), Ok((None, None, false)));
    }

    #[test]
    fn clause_6_2_5_2_what_means_nothing_is_refused() {
        assert_eq!(read("_HLS_part=1"), Err(BadDirectives::PartAlone));
        for query in
            ["_HLS_msn=", "_HLS_msn=-1", "_HLS_msn=+1", "_HLS_msn=1.0", "_HLS_msn=99999999999999999999", "_HLS_msn"]
        {
            assert_eq!(read(query), Err(BadDirectives::NotANumber("_HLS_msn")), "{query}");
        }
        assert_eq!(read("_HLS_msn=1&_HLS_part=x"), Err(BadDirectives::NotANumber("_HLS_part")));
        assert_eq!(read("_HLS_msn=1&_HLS_msn=2"), Err(BadDirectives::Twice("_HLS_msn")));
    }

    proptest! {
        #[test]
        fn what_is_asked_on_asks_the_same(msn: Option<u64>, part: u32, with_part: bool, skip: bool) {
            let wanted = msn.map(|msn| Position { msn: Msn(msn), part: with_part.then_some(part) });
            let directives = Directives { wanted, skip };
            prop_assert_eq!(Directives::read(directives.query().as_deref()), Ok(directives));
        }

        #[test]
        fn nothing_panics(query in "[ -~]*") {
            let _ = read(&query);
            let _ = read(&format!("_HLS_msn={query}&_HLS_part={query}"));
        }
    }
}
