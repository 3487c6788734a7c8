//! A metrics page.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// One number of the metrics page at `IP:PORT`.
///
/// # Errors
/// The page cannot be read, or has no such line.
pub fn metric_at(address: &str, name: &str) -> Result<f64, String> {
    let mut stream = TcpStream::connect(address).map_err(|e| format!("{address}: {e}"))?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map_err(|e| e.to_string())?;
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .ok_or_else(|| format!("http://{address}/metrics has no {name}"))
}
