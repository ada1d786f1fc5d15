//! The desk as its callers meet it, on a real store.

mod buying;
mod keys;
pub mod shop;
mod stock;
mod trouble;

pub use self::shop::Folder;
