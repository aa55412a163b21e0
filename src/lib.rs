//! bondgate is a local authenticating reverse proxy for Cisco's Smart Bonding API. Callers that cannot do OAuth 2.0 send
//! plain HTTP; bondgate keeps a fresh client-credentials token and relays each request over HTTPS with
//! `Authorization: Bearer`.
//!
//! The product is the program; the library exists for its tests. The README describes its use.
//!
//! # Layout
//!
//! | module | contents |
//! |---|---|
//! | [`platform`] | everything that only one operating system has: sockets, signals, locks, permissions, sandbox, service manager |
//! | [`config`] | file and environment, parsed into types that are valid or not built at all |
//! | [`telemetry`] | the log, and one struct of metrics |
//! | [`tls`] | TLS settings for connections to upstreams and for listeners |
//! | [`upstream`] | resolver, connector and connection pool; knows hosts, nothing of callers or tokens |
//! | [`token`] | token endpoint, refresher, and the arc-swap cell that every request reads |
//! | [`server`] | listeners, limits, connections and their head filter; knows nothing of tokens |
//! | [`spool`] | pulled messages, until a caller has received them |
//! | [`proxy`] | the request stack: tower layers from the access log to the bearer |
//! | [`spelling`] | the spelling of field names in a stored head |
//! | [`admin`] | health, readiness, status page, metrics |
//! | [`daemon`] | the active configuration, start and reload, tasks, stop |
//! | [`simulator`] | simulates Cisco for demos and tests; shares no code with `token` |
//! | [`cli`] | one file per subcommand |
//!
//! Imports go one way: `cli → daemon → {admin, proxy} → {token, server, spool} → upstream → {telemetry, tls} → config →
//! platform`. `admin` and `proxy` never import each other, and no two files import each other; a test enforces the table of
//! imports.
//!
//! There are three kinds of threads. Each **worker** (one per core, at most four) runs its own single-threaded runtime,
//! accepts from the same listening sockets and has its own connection pool. The **control thread** refreshes tokens, serves
//! the admin listener and handles signals, so that no load on the workers delays them. The **log thread** writes the log.
//!
//! # Life of a request
//!
//! A `GET` through the files, from top to bottom:
//!
//! 1. `server/listener`: a worker accepts the connection. `server/limits` gives it a permit, closes the longest idle
//!    connection for it, or refuses it with 503. The TLS handshake runs in the connection's own task.
//! 2. `server/connection`: the head filter, beneath hyper, validates the raw head. It refuses malformed, slow and oversized
//!    heads itself (400 to 431), and passes one request at a time to hyper. Between requests the connection is parked:
//!    hyper's state is dropped.
//! 3. [`proxy::routers`]: the listener's axum router passes the request through one list of tower layers. They catch panics,
//!    respond on the health path, write the access log, authorize the caller and the request
//!    (`proxy/authorization`), and hold an in-flight permit until the response's body has ended.
//! 4. `proxy/forward`: hop-by-hop fields and the caller's identity are removed. Path and query go upstream byte for byte
//!    behind the configured scheme, host and port.
//! 5. `proxy/forward/inject_bearer`: the layer `InjectBearer` reads the token from its cell and adds
//!    `Authorization: Bearer`. Without a token the request waits briefly, or gets 503: it is never sent without one.
//! 6. [`upstream`]: a pooled connection, or a new one, sends the request. The task that awaits the response drives the
//!    connection, so nothing crosses between tasks. A connect is retried while nothing was sent; a request is not. After a
//!    401, `InjectBearer` reports the token as rejected and sends the request once more with a newer one.
//! 7. The body streams back. When its last byte is written, the access log gets its line, and the connection becomes
//!    idle, or closes if the response was its last.
//!
//! # Life of a pulled message
//!
//! On a consuming route, step 4 is `proxy/pull` instead. The spool delivers the oldest ready message; without one, it pulls:
//! the control thread sends the request and writes the response to disk before the caller gets any of it. A response
//! from the spool is the last on its connection, and the connection reports how it ended. The message is delivered when the
//! caller has acknowledged every byte and has closed in order, or stays silent for `spool.settle`; it is then kept for a
//! day. Otherwise it is delivered again. A message that fails five times becomes a dead letter.
//!
//! # Life of a token
//!
//! 1. The refresher reads client id and secret anew for each fetch, and sends them in the configured shape.
//! 2. The response is a token, or a failure whose kind decides when to try again.
//! 3. The token is stored in an arc-swap cell, and waiting requests are woken. Every request reads the cell without a lock.
//! 4. At about half of its lifetime a successor is fetched. A failed fetch never replaces a token: it serves until it expires
//!    by the monotonic or by the wall clock.
//! 5. An upstream that rejects the current token causes one fetch, whatever the number of rejections.
//!
//! # Life of a configuration
//!
//! 1. File and environment are parsed into types, or every error is reported with its line.
//! 2. The daemon builds the active configuration from it: upstreams, listeners, routers. A reload builds the next one by the
//!    same code beside the active one, and keeps from it what has not changed: tokens, connections, TLS sessions.
//! 3. Only when everything is built, each listener's router is replaced. A request uses the router that was active when it
//!    began. An error rejects the reload as a whole.
//! 4. Settings that are read only at start are compared with the start, and reported where they differ.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod platform;
pub mod proxy;
pub mod server;
pub mod simulator;
pub mod spelling;
pub mod spool;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod upstream;
