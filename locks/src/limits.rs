//! The limits of the machine, each in one place. A change of one is a change of the replicated
//! behaviour: members of both versions would answer differently.

use crate::command::RequestId;

/// The longest name, in bytes of UTF-8. The shortest is 1.
pub const NAME_BYTES_MAX: usize = 256;

/// The longest label of a session, in bytes of UTF-8. It may be empty.
pub const LABEL_BYTES_MAX: usize = 256;

/// The longest value of an election, in bytes. A lock has none.
pub const VALUE_BYTES_MAX: usize = 4096;

/// The shortest time to live of a session, in ms.
pub const TTL_MS_MIN: u32 = 1_000;

/// The longest time to live of a session, in ms: 10 minutes.
pub const TTL_MS_MAX: u32 = 600_000;

/// The longest hold-off of a recovered or restored group, in ms: twice the longest time to live.
pub const HOLD_OFF_MS_MAX: u32 = 2 * TTL_MS_MAX;

/// How many claims wait for one name, the holder not counted.
pub const QUEUE_MAX: usize = 10_000;

/// How many sessions are open at once.
pub const SESSIONS_MAX: usize = 100_000;

/// How many claims of one session hold or wait at once.
pub const CLAIMS_MAX: usize = 65_536;

/// How many names are held or waited for at once.
pub const NAMES_MAX: usize = 1_000_000;

/// How many outcomes a session keeps for repeated requests.
pub const OUTCOMES_MAX: usize = 256;

/// The last epoch: 15 bits less one, so that a token fits a signed 64-bit column with room above.
pub const EPOCH_MAX: u16 = 32_766;

/// The end of the counting part of a token: `n` is below it.
pub const TOKEN_N_END: u64 = 1 << 48;

/// The largest request id: the next one must exist.
pub const REQUEST_MAX: RequestId = RequestId(u64::MAX - 1);
