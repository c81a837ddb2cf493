//! The accounts machine from outside: inputs in, records, events and messages out.

mod bank;
mod books;
mod deposit;
mod door;
mod house;
mod laws;
mod pages;
mod random;
mod transfer;
mod withdrawal;
