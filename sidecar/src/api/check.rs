//! The limits of what a client may say. Each refusal names the field, the value, the limit, and
//! what to do.

use crate::agent::{Bond, Opening};
use crate::clock;
use crate::reason::{Failure, Reason};
use quorate_locks::{Key, RequestId, limits};

/// A client's clock reading may be older than ours by the time that its request took; more is
/// another clock.
const CLOCK_BEHIND_NS: u64 = 30_000_000_000;
/// It cannot be ahead of ours but for rounding.
const CLOCK_AHEAD_NS: u64 = 1_000_000;

/// 16 bytes, not all zero.
pub(super) fn key(bytes: &[u8]) -> Result<Key, Failure> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| {
        Failure::new(
            Reason::BadRequest,
            format!("key has {} bytes; it is 16 random bytes of the client's", bytes.len()),
        )
    })?;
    let key = u128::from_le_bytes(bytes);
    if key == 0 {
        return Err(Failure::new(
            Reason::BadRequest,
            "key is all zero; it is 16 random bytes, the session's secret",
        ));
    }
    Ok(Key(key))
}

pub(super) fn name(name: String) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::new(Reason::BadName, "name is empty; it is 1 to 256 bytes of UTF-8"));
    }
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(Failure::new(
            Reason::BadName,
            format!(
                "name has {} bytes; at most {} are allowed, so shorten it",
                name.len(),
                limits::NAME_BYTES_MAX
            ),
        )
        .with("max", limits::NAME_BYTES_MAX));
    }
    Ok(name)
}

pub(super) fn value(value: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if value.len() > limits::VALUE_BYTES_MAX {
        return Err(Failure::new(
            Reason::ValueTooLarge,
            format!(
                "value has {} bytes; at most {} are allowed: store it elsewhere and put its place \
                 here",
                value.len(),
                limits::VALUE_BYTES_MAX
            ),
        )
        .with("max", limits::VALUE_BYTES_MAX));
    }
    Ok(value)
}

pub(super) fn ttl(ttl_ms: u64) -> Result<u32, Failure> {
    u32::try_from(ttl_ms)
        .ok()
        .filter(|ttl| (limits::TTL_MS_MIN..=limits::TTL_MS_MAX).contains(ttl))
        .ok_or_else(|| {
            Failure::new(
                Reason::TtlOutOfRange,
                format!(
                    "ttl_ms is {ttl_ms}; it must be {} to {}",
                    limits::TTL_MS_MIN,
                    limits::TTL_MS_MAX
                ),
            )
            .with("min", limits::TTL_MS_MIN)
            .with("max", limits::TTL_MS_MAX)
        })
}

pub(super) fn opening(ttl_ms: u64, label: String, bond: Bond) -> Result<Opening, Failure> {
    if label.len() > limits::LABEL_BYTES_MAX {
        return Err(Failure::new(
            Reason::BadRequest,
            format!(
                "label has {} bytes; at most {} are allowed",
                label.len(),
                limits::LABEL_BYTES_MAX
            ),
        ));
    }
    Ok(Opening { ttl_ms: ttl(ttl_ms)?, label, bond })
}

/// The client's reading of CLOCK_BOOTTIME; 0 is none.
pub(super) fn boottime(reading: u64) -> Result<(), Failure> {
    if reading == 0 {
        return Ok(());
    }
    let now = clock::now().0;
    let ahead = reading.saturating_sub(now);
    let behind = now.saturating_sub(reading);
    if ahead > CLOCK_AHEAD_NS || behind > CLOCK_BEHIND_NS {
        return Err(Failure::new(
            Reason::ClockNamespace,
            format!(
                "boottime_ns is {reading}, and this sidecar's clock says {now}: the client runs in \
                 another time namespace, or its clock is not CLOCK_BOOTTIME; deadlines would lie"
            ),
        ));
    }
    Ok(())
}

/// The request's id, and the lowest one that the client still wants answered.
pub(super) fn request_ids(request: u64, lowest: u64) -> Result<(RequestId, RequestId), Failure> {
    if request == 0 {
        return Err(Failure::new(
            Reason::BadRequest,
            "request_id is 0; ids rise per session, from 1",
        ));
    }
    let lowest = lowest.max(1);
    if lowest > request {
        return Err(Failure::new(
            Reason::BadRequest,
            format!("lowest_unacked is {lowest}, above request_id, {request}"),
        ));
    }
    Ok((RequestId(request), RequestId(lowest)))
}
