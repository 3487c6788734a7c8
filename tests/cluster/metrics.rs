//! A member's metrics page.

use super::MemberInfo;
use quorate_load::metric_at;

/// One number of a member's metrics page.
///
/// # Errors
/// The page cannot be read, or has no such line.
pub fn metric(member: &MemberInfo, name: &str) -> Result<f64, String> {
    let url = member.metrics.trim_start_matches("http://");
    metric_at(url.split('/').next().unwrap_or(url), name)
}
