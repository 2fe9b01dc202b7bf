//! The program as an operator runs it: commands, settings and log lines.

mod commands;
mod logs;
mod settings;
