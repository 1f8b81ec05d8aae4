//! What every attempt used, and what it cost.

pub mod count;
pub mod price;
pub mod settings;

pub use count::{Count, Counts};
pub use price::{Price, PriceTable, Unpriced};
pub use settings::{Durability, LedgerSettings, WhenFull};
