//! Limits on guessing, checked before any password is hashed.
//!
//! * [`AddressLimits`]: requests of one client address, in this process's memory. They cost no query.
//! * [`AttemptQueue`]: of the attempts for one account, this replica hashes one at a time.
//! * [`DelayPolicy`]: how long an account refuses attempts after failures in a row. The failures are in the database, so
//!   that all replicas count together; see `storage::sign_in_failures`.

mod address;
mod attempts;
mod delay;

pub use address::{AddressLimit, AddressLimits, AddressRates, network};
pub use attempts::{Attempt, AttemptQueue};
pub use delay::DelayPolicy;
