//! Counters of the members' metrics pages.

use quorate_tests::cluster::{Cluster, metric};

/// One counter, over all members.
pub fn sum(cluster: &Cluster, name: &str) -> Result<f64, String> {
    let mut sum = 0.0;
    for member in &cluster.members {
        sum += metric(member, name)?;
    }
    Ok(sum)
}
