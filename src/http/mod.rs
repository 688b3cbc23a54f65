//! The HTTP endpoint of the daemon. It shows the state of this host to people and to monitoring.
//! It never waits for a client, and it changes nothing but the settings in memory.

/// One client: reads its request, writes the answer, closes.
mod connection;
/// The request and the response as text.
pub mod message;
/// The status document in the format of Prometheus.
pub mod metrics;
/// The answer for each path.
pub mod routes;
/// The listening socket and the clients of the moment.
pub mod server;
