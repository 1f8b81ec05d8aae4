//! Server-sent events: where one ends, and what it says.
