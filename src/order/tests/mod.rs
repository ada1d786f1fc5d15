//! The desk as its callers meet it, on a real store.

mod buying;
mod damage;
mod gate;
mod keys;
mod limits;
pub mod shop;
mod stock;
mod trouble;

pub use self::shop::Folder;
