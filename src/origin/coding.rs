//! The choice of a content coding from `Accept-Encoding` (RFC 9110, 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// The client takes gzip, and prefers nothing to it that this server has.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut weights = Weights::default();
    for value in headers.get_all(ACCEPT_ENCODING) {
        for item in value.to_str().unwrap_or_default().split(',') {
            weights.read(item);
        }
    }
    let gzip = weights.gzip.or(weights.any).unwrap_or(0);
    gzip > 0 && gzip >= weights.identity.unwrap_or(0)
}

/// What was said of the codings that matter, in thousandths.
#[derive(Default)]
struct Weights {
    gzip: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn read(&mut self, item: &str) {
        let mut steps = item.split(';');
        let coding = steps.next().unwrap_or_default().trim();
        let weight = Some(steps.find_map(|p| weight(p.trim())).unwrap_or(1000));
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            self.gzip = weight;
        } else if coding.eq_ignore_ascii_case("identity") {
            self.identity = weight;
        } else if coding == "*" {
            self.any = weight;
        }
    }
}

/// Reads `q=0.5` as 500; what cannot be read counts as 0, which costs a client bandwidth but never understanding.
fn weight(parameter: &str) -> Option<u16> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let readable = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    match whole {
        "1" if readable => Some(1000),
        "0" if readable => format!("{fraction:0<3}").parse().ok().or(Some(0)),
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn takes(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        takes_gzip(&headers)
    }

    #[test]
    fn weights_decide() {
        for yes in ["gzip", "GZIP", "gzip, deflate, br, zstd", "br;q=1.0, gzip;q=0.8, *;q=0.1", "*", "x-gzip"] {
            assert!(takes(&[yes]), "{yes}");
        }
        for yes in ["gzip;q=0.001", "identity;q=0.5, gzip;q=0.5", "identity;q=0, *", "gzip ; q=0.5"] {
            assert!(takes(&[yes]), "{yes}");
        }
        for no in
            ["", "br", "gzip;q=0", "gzip;q=0.000", "*;q=0", "identity", "identity, gzip;q=0.5", "gzip;q=x", "gzip;q=2"]
        {
            assert!(!takes(&[no]), "{no}");
        }
        assert!(takes(&["br", "gzip"]));
        assert!(!takes(&["gzip;q=0, *"]));
        assert!(!takes(&[]));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[ -~]*") {
            let _ = takes(&[&text]);
        }
    }
}
