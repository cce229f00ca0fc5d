//! `/healthz` and `/readyz`: what load balancers and supervisors ask.

use http::StatusCode;

use crate::caching::Cache;
use crate::live::Directory;
use crate::origin::representation::Representation;

/// The process answers.
pub(super) fn health() -> Representation {
    verdict(StatusCode::OK, "ok")
}

/// Whether new viewers should be sent here, and if not, why.
pub(super) fn ready(directory: &Directory, draining: bool) -> Representation {
    if draining {
        return verdict(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
    }
    let failing = directory.iter().filter_map(|(name, view)| {
        let error = view.upload.borrow().failing.clone()?;
        Some(format!("channel {name}: the store fails: {error}"))
    });
    let failing: Vec<String> = failing.collect();
    unless((!failing.is_empty()).then(|| failing.join("\n")))
}

/// Ready, or why not.
pub(super) fn unless(failing: Option<String>) -> Representation {
    match failing {
        None => verdict(StatusCode::OK, "ready"),
        Some(why) => verdict(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn verdict(status: StatusCode, text: &str) -> Representation {
    Representation { cache: Cache::Never, ..Representation::refusal(status, text) }
}
