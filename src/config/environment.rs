//! What only the machine can tell of a config: whether paths can be written and ports are free.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::{Config, StoreConfig};

/// Tries what `serve` will do first, and undoes it: binds every port, writes below every path.
///
/// # Errors
/// A sentence for each thing that does not work, with its key.
pub fn check_environment(config: &Config) -> Result<(), Vec<String>> {
    let mut results = vec![
        bind("rtmp.listen", config.rtmp.listen),
        bind("origin.listen", config.origin.listen),
        bind("admin.listen", config.admin.listen),
        write_below("data_dir", &config.data_dir),
    ];
    let with_tls = config.rtmps.iter().chain(&config.origin_tls);
    results.extend(with_tls.map(|port| bind(&format!("{}.listen", port.section), port.listen)));
    if let StoreConfig::Fs { path } = &config.store {
        results.push(write_below("store.path", path));
    }
    results.extend(config.spool.iter().map(|spool| write_below("store.spool.path", &spool.path)));
    let problems: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn bind(key: &str, address: SocketAddr) -> Result<(), String> {
    TcpListener::bind(address).map(drop).map_err(|error| {
        format!("{key}: cannot listen on {address}: {error}; stop what listens there, or choose another port")
    })
}

fn write_below(key: &str, path: &Path) -> Result<(), String> {
    let probe = path.join(format!(".headwater-check-{}", std::process::id()));
    std::fs::create_dir_all(path)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| format!("{key}: cannot write below {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_and_an_unwritable_path_are_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind("rtmp.listen", taken.local_addr().unwrap()).unwrap_err();
        assert!(error.contains("rtmp.listen: cannot listen on 127.0.0.1:"), "{error}");
        let error = write_below("data_dir", Path::new("/dev/null/x")).unwrap_err();
        assert!(error.contains("data_dir: cannot write below /dev/null/x"), "{error}");
    }
}
