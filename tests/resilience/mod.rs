//! Behaviour under load, races, faults of the database and of the network, and over time.

mod connections;
mod database;
mod drills;
mod failover;
mod flood;
mod key_rotation;
mod model;
mod purge;
mod races;
mod revocation_feed;
mod shutdown;
