//! The program as an operator runs it: commands, settings and log lines.

mod bootstrap;
mod clients;
mod commands;
mod keys;
mod logs;
mod settings;
mod users;
