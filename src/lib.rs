//! bondgate is a local authenticating reverse proxy for Cisco's Smart Bonding API. Callers that cannot
//! do OAuth 2.0 speak plain HTTP to it; it keeps a fresh client-credentials token and relays over HTTPS
//! with `Authorization: Bearer`.
//!
//! The program is the product; the library is there for its tests. The README tells how to use it.
//!
//! # Layout
//!
//! | module | knows |
//! |---|---|
//! | [`config`] | the file and the environment, as types that come out right or not at all |
//! | [`telemetry`] | logs, and the one struct of metrics |
//! | [`tls`] | rustls configurations, for calls out and for listeners |
//! | [`upstream`] | name resolution, connections and requests to upstreams; nothing of callers or tokens |
//! | [`token`] | the token engine: clock, cell, endpoint, schedule, refresher |
//! | [`spelling`] | how the names of fields are spelled, for those who store a head |
//! | [`server`] | sockets, workers, the gate beneath hyper, answers of our own; nothing of tokens |
//! | [`spool`] | pulled messages, until a caller has them |
//! | [`proxy`] | what a request goes through: access, in-flight cap, header hygiene, exchange, replay |
//! | [`admin`] | health, readiness, status, metrics |
//! | [`platform`] | what only one operating system has: hardening, sandbox, service manager, signals |
//! | [`daemon`] | judges what the configuration names, binds everything, runs the parts, reloads, stops in order |
//! | [`simulator`] | a stand-in for Cisco; shares no code with `token` |
//! | [`cli`] | one file a subcommand |
//!
//! Imports go one way: `cli → daemon → {admin, proxy} → {token, server, spool} → {config, upstream, telemetry, tls}`.
//! `proxy` and `admin` never see each other. A test holds the whole table.
//!
//! There are three kinds of threads. Workers (one a core, at most four) each run their own
//! single-threaded runtime: they accept from the same sockets and relay with a connection pool of
//! their own. The control thread refreshes tokens, answers the admin listener and heeds signals, so
//! that no load can starve them. The log's thread writes what the others log, so that none of them waits
//! for its reader.
//!
//! # Life of a request
//!
//! 1. A worker accepts the connection, under a cap over all workers that no caller can take whole. At the cap,
//!    the connection that has been idle longest is closed for it; where none is idle, it is answered with 503. TLS is shaken hands over in the connection's own task.
//! 2. The gate reads the raw head. What is not plainly one request is answered there with 400 to 431;
//!    the rest goes to hyper, one request at a time. Between requests the connection is parked.
//! 3. hyper parses, and the layers of [`proxy`] follow, by one dynamic call: a panic becomes an answer;
//!    health checks are answered; the request is observed; caller, browser and path are judged; a place in
//!    flight is taken, and held until the answer has ended.
//! 4. The current token is read from its cell. Without one the request waits a moment, or is answered
//!    with 503: it is never relayed bare.
//! 5. Hop-by-hop fields and everything that says who the caller is are stripped, then exactly one
//!    `Authorization` is set. The path goes upstream byte for byte, behind scheme, host and port from the
//!    configuration alone; so does the query, except for characters that HTTP forbids there, which the gate
//!    has percent-encoded.
//! 6. A kept connection is taken, or one is made: the API's name is looked up anew, and the last known addresses are
//!    used where that hangs or fails. Connecting is tried again for a while, since nothing was sent. The connection has
//!    no task of its own: whoever waits for its answer drives it, and then whoever
//!    reads the answer's body, so that nothing crosses from task to task. The body streams up and the answer streams back, each watched for a stall. After a 401 the token
//!    is reported, and a request whose body is still at hand goes out once more with the newer one.
//!    Whatever of a request's body nobody has read by the answer is read away if it is there; else the answer
//!    says that it is the connection's last.
//! 7. When the answer's last byte is with hyper, the request is logged and counted; when it is flushed,
//!    the gate lets the next request in.
//!
//! On a consuming route the request takes another way from 4 on: the spool gives it the oldest message that no
//! caller has, or pulls one in a task of the control thread, which writes the answer down to its end before
//! the caller gets any of it. Such a response is the last on its connection. The gate observes how the connection ends:
//! acknowledged and closed, or silent for a while, the message is delivered, and the spool retains it for a day; after a
//! reset it is paused for that caller, and another request gets it.
//!
//! # Life of a configuration
//!
//! 1. File and environment are read into types, or every fault of them is told.
//! 2. Sockets are bound, files opened, and the process shuts itself into what this configuration needs.
//! 3. What each listener does with requests hangs on one pointer. A reload makes everything new beside
//!    what is in force, and only when all of it is there, the pointers are swapped; upstreams that are
//!    what they were keep their token, their engine and their connections.
//! 4. What is read once, at the start, is compared with the start, and named where it differs.
//!
//! # Life of a token
//!
//! 1. The refresher reads client id and secret from where they are, each time, and sends them in the
//!    configured shape.
//! 2. The reply is judged: a bearer of plain characters with a lifetime, or a failure whose kind says
//!    when to try again; where somebody has to mend the credentials, a change of them is looked for.
//! 3. The token is put into an arc-swap cell, and whoever waits is woken. From now on every request
//!    reads it without a lock.
//! 4. At about half of its lifetime its successor is fetched. A failed fetch never replaces it; it
//!    serves until it expires by the monotonic or the wall clock. Where the identity service returns the same
//!    token until it expires, its successor is fetched then, and requests wait for it.
//! 5. An upstream that refuses it makes the refresher fetch at once, if it is still the one in force: a
//!    thousand refusals of one token are one fetch.

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
