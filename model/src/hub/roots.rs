//! Whose word is taken for who a server is.

use std::path::Path;
use std::sync::Arc;

use ureq::tls::{PemItem, RootCerts, parse_pem};

use super::HubError;
use super::error::io;

/// The authorities of the file that `SSL_CERT_FILE` names, else those that browsers know.
///
/// # Errors
/// If the file cannot be read, or holds none.
pub fn authorities() -> Result<RootCerts, HubError> {
    match std::env::var("SSL_CERT_FILE") {
        Ok(path) if !path.is_empty() => of_file(Path::new(&path)),
        _ => Ok(RootCerts::WebPki),
    }
}

/// The authorities that a file names, in PEM. Networks that look into connections have one of their
/// own, and say in `SSL_CERT_FILE` where it is.
pub(super) fn of_file(path: &Path) -> Result<RootCerts, HubError> {
    let text = std::fs::read(path).map_err(io(path))?;
    let wrong = |problem: String| HubError::Roots {
        path: path.to_owned(),
        problem,
    };
    let mut roots = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(root) = item.map_err(|error| wrong(error.to_string()))? {
            roots.push(root);
        }
    }
    match roots.is_empty() {
        true => Err(wrong("it holds no certificate".to_owned())),
        false => Ok(RootCerts::Specific(Arc::new(roots))),
    }
}
