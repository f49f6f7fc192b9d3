//! The node agent: pods through CRI, status, logs, volumes.
