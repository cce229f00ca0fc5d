//! A small HTTP client: one request, one response, nothing kept.

use std::io::Read as _;

/// A response, whatever its status.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Fetches `url`; an error only where there is no response at all.
pub(crate) fn get(url: &str) -> Result<Response, String> {
    get_with(url, &[])
}

/// The same, with header fields.
pub(crate) fn get_with(url: &str, fields: &[(&str, &str)]) -> Result<Response, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = fields.iter().fold(agent.get(url), |request, (name, value)| request.header(*name, *value));
    let mut response = request.call().map_err(|error| format!("{url}: {error}"))?;
    let mut body = Vec::new();
    response.body_mut().as_reader().read_to_end(&mut body).map_err(|error| format!("{url}: {error}"))?;
    Ok(Response { status: response.status().as_u16(), headers: response.headers().clone(), body })
}

/// Fetches `url`; anything but 200 is an error.
pub(crate) fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let response = get(url)?;
    if response.status == 200 { Ok(response.body) } else { Err(format!("{url}: {}", response.status)) }
}

/// Posts JSON to `url`; the body of the answer, whatever its status.
pub(crate) fn post(url: &str, json: &str) -> Result<String, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let response = agent.post(url).header("Content-Type", "application/json").send(json);
    response.and_then(|mut response| response.body_mut().read_to_string()).map_err(|error| format!("{url}: {error}"))
}
