//! The integration tests: one binary, one module per area. Each starts the real server and speaks the real protocol.

mod support;

mod bad_input;
mod browser;
mod crash;
mod demo;
mod disk;
mod media;
mod operation;
mod oversell;
mod purchase;
mod rehearsal;
mod restart;
mod rights;
mod sim;
mod stream;
mod tidy;
mod tls;
mod upstream;
