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
//! | [`problems`] | the catalogue of everything that can be reported: code, cause, fix |
//! | [`config`] | file and environment, parsed into types that are valid or not built at all |
//! | [`telemetry`] | the log, one struct of metrics, the recent requests and refusals, and the recent log |
//! | [`tls`] | TLS settings for connections to upstreams and for listeners |
//! | [`upstream`] | resolver, connector and connection pool; knows hosts, nothing of callers or tokens. Token requests use its resolver, and walk its way to a host to name the step that fails |
//! | [`token`] | token endpoint, refresher, and the arc-swap cell that every request reads |
//! | [`server`] | listeners, limits, connections with their head filter, and how the delivery of a message ended; knows nothing of tokens |
//! | [`spool`] | pulled messages, until a caller has received them |
//! | [`proxy`] | the request stack: tower layers from the access log to the bearer |
//! | [`spelling`] | the spelling of field names, while a head passes the request stack and while it is stored |
//! | [`admin`] | health, readiness, metrics, and the status page with its events |
//! | [`daemon`] | the active configuration, start and reload, tasks, stop |
//! | [`simulator`] | simulates Cisco for demos and tests; shares no code with `token` |
//! | [`cli`] | one file per subcommand |
//!
//! Imports go one way: `cli → daemon → {admin, proxy} → {token, server, spool} → upstream → {telemetry, tls, spelling} →
//! config → problems → platform`. `admin` and `proxy` never import each other, and no two files import each other; a test
//! (`tests/e2e/architecture/mod.rs`) has the table of imports and enforces it.
//!
//! Each **worker** thread (one per core, at most four) runs its own single-threaded runtime, accepts from the same listening
//! sockets and has its own connection pool. The **control thread** refreshes tokens, sends pulls, reloads, serves the admin
//! listener and handles signals, so that no load on the workers delays them. The **log thread** writes the log. Blocking
//! work (files, name lookups) runs on further threads, off all of these.
//!
//! # Life of a request
//!
//! A `GET` through the files, from top to bottom:
//!
//! 1. `server/listener`: at the start, `bind.rs` has `platform/socket` and `platform/unix_socket` open the listening
//!    sockets, or `platform/inherited_sockets` take them from systemd. A worker (`worker.rs`) accepts the connection
//!    (`accept.rs`). `server/limits` gives it a permit, for which it may ask the longest idle connection to close, or
//!    refuses it: with 503 (after the TLS handshake, by `server/connection/serve.rs`), or without a response if many
//!    are refused. The TLS handshake (`handshake.rs`) runs in the connection's own task.
//! 2. `server/connection`: `serve.rs` is the life of a connection. `state.rs` is the state machine that all of its
//!    files share. `head_filter.rs` is the stream that hyper reads and writes, above the plain or TLS stream
//!    (`transport.rs`). Its part `head_wait.rs` awaits a head, for `serve.rs` (the first one, and after parking) or for
//!    hyper, and has it validated by `head.rs` before hyper sees any of it: `target.rs` checks the request line (it
//!    percent-encodes what a query must not contain), `host.rs` the syntax of Host, `framing.rs` finds where the body
//!    ends. hyper reads one request at a time, and `service.rs` passes it to the listener's router, after a reload only
//!    if the new TLS settings accept the caller's certificate, which `transport.rs` keeps. For a refusal, `state.rs`
//!    keeps one of the responses in `refusal_responses.rs` until `serve.rs` ends the connection, and `close.rs` sends
//!    it. `server/context.rs` counts it for the status page, as it does what was refused before a head arrived. A
//!    connection that has been idle for a second is parked: `serve.rs` drops hyper's state. `head_wait.rs` registers it
//!    in `server/limits/idle_connections`, and closes it when asked to.
//! 3. [`proxy::routers`]: the listener's active axum router passes the request through one list of tower layers. They
//!    respond on the health path, write the access log, catch panics, authorize the request, and hold an in-flight
//!    permit until the response's body has ended. `proxy/authorization` takes the caller's identity from
//!    `proxy/caller_identity` and decides about the request, with a file for each subject: network and user, Host,
//!    browser (by `server/web_page`), key, and path with the rules (their patterns are in `config/rule`). Its `mod.rs`
//!    has the order, the required header field, and the check for a loop (508). `proxy/early_response` is the layer for
//!    those that may respond themselves. The layers leave data for each other in `proxy/request_record`, which the
//!    access log keeps until the body has ended, and the permit with it. The innermost service, `proxy/relay`, forwards
//!    the request, or passes it to `proxy/pull` if its rule is `consuming`.
//! 4. `proxy/forward` keeps a small body for a second attempt (`kept_body`). `upstream/client` makes the target: the
//!    path byte for byte, behind the configured base path. `proxy/forward/headers` removes hop-by-hop fields and the
//!    caller's identity.
//! 5. `proxy/forward/inject_bearer`: the tower service `InjectBearer` reads the token from its cell (`token/cell`) and
//!    adds `Authorization: Bearer`. Without a token the request waits at the cell briefly, or gets 503: it is never
//!    sent without one.
//! 6. [`upstream`]: the client sends the request on an idle connection of `pool`. Without one the request waits there
//!    for whichever comes first, a connection that another request returns or a new one: `connector` dials in a task of
//!    its own, for the request that has waited longest. The task that awaits the response drives the connection
//!    (`connection`). Connecting is retried, and a request only while no byte of it was written. After a 401,
//!    `InjectBearer` reports the token as rejected and sends the request once more with a newer one, if its body was
//!    kept.
//! 7. On the way back, `inject_bearer` removes fields that contain the token, and `forward/mod` the upstream's own
//!    (both with `forward/headers`); then it sets the length (`forward/response_length`). `service.rs` marks a response
//!    that is the last on its connection. The body streams; `upstream/response_body` returns the upstream connection to
//!    the pool at its end. When hyper has taken the last byte, the access log gets its line. When that byte is written
//!    to the socket, the caller's connection becomes idle, or closes if the response was its last.
//!
//! # Life of a pulled message
//!
//! On a consuming route, `proxy/pull` comes before step 4:
//!
//! 1. `proxy/pull` reads the request and calls `spool/take`, which waits on the worker for the queue's turn
//!    (`spool/queue`). The rest runs in a task on the control thread that outlives the caller. First, the connections
//!    that deliver older messages of the queue confirm that their callers are still there: `spool/queue` asks them
//!    through the leases of their messages, and `server/connection` (`head_filter.rs`, `delivery.rs`) replies. Then
//!    `spool/take` locks the queue among processes (`spool/folders`) and looks in `spool/store` for the oldest message;
//!    the pull of a daemon that was killed becomes one there, or is reported as lost. `spool/caller_outcomes` offers
//!    the caller this message or the next one, or refuses it for a pause, by the rules in `spool/failed_deliveries`. If
//!    there is no message, `spool/pull_writer` records on disk that a pull is about to be sent, and reserves space for
//!    its message (`spool/store`, `spool/message_file`).
//! 2. For a pull, `proxy/pull` sends the request by steps 4 to 6, on a new connection, and `spool/pull_writer` stores
//!    the whole response before the caller gets any of it. Errors and the response of an empty queue are passed on and
//!    not stored. From here on, a stored message is a `Delivery` (`spool/delivery`), and one that cannot be stored a
//!    `PassThrough` (`spool/pass_through`): the next request of the queue is then served at once, and the message is
//!    reported as lost unless it is delivered. `proxy/pull` makes the response, and `proxy/pull/body` its body.
//! 3. `proxy/pull` attaches an observer to the response, which implements the trait in `server/delivery_observer`. A
//!    response with a message is the last on its connection. `service.rs` takes the observer out of the response and
//!    `state.rs` holds it until the head filter takes it at the first byte; the head filter holds the last KiB back
//!    (`tail.rs`). If the connection breaks before the first byte, the observer is dropped, and the message is in its
//!    queue as before. If it breaks later and before the end, `close.rs` records a failure. Else `close.rs` hands over
//!    to `server/connection/delivery`, which sends that rest with the FIN, follows how the connection ends, and
//!    decides: the message is delivered when the caller has acknowledged every byte and has closed in order, or stays
//!    silent for `spool.settle`; behind a trusted proxy, when every byte is acknowledged or was sent before that proxy
//!    reset the connection; during a stop, when every byte is acknowledged.
//! 4. The observer passes the outcome to the `Delivery` or the `PassThrough`. A delivered message is kept for a day
//!    (`spool/retention`; `spool/sweep` removes it). Another one is delivered again, after a pause for that caller.
//!    When a message has failed five times, twice for this caller, the caller is offered the next one. If that one is
//!    delivered, `spool/caller_outcomes` makes the first a dead letter. A `PassThrough` that fails is lost, and pauses
//!    the caller's next pulls. At the end of the process, `spool/lost_at_end` reports the messages in memory, or in a
//!    directory that does not outlive the pod.
//! 5. After a change of client id, host or path, no request names the message's queue any more. `spool/queue_check`
//!    reports that by what `spool/requested` finds in the configuration, and `spool/move_messages` moves the queue's
//!    messages; `spool/moved_from` records in the folder of the other queue that they belong there.
//!
//! # Life of a token
//!
//! 1. The refresher, a task that `daemon/upstream` builds, starts and holds, fetches: `token/endpoint` reads client id
//!    and secret anew each time and sends them in the configured shape.
//! 2. `token/response` parses the reply to a grant. `token/refusal` finds out why there is none in a reply; for a fetch
//!    without a reply, `token/endpoint` walks the way to the host (`upstream/way`), to name the step that fails. Each
//!    failure is a problem of the catalogue. The refresher decides by the kind of a failure when to try again, with
//!    the times of `token/schedule`.
//! 3. `token/refresher` makes a token of the grant and stores it in the arc-swap cell (`token/cell`), which every
//!    request reads without a lock. Then `token/refresher/report` publishes the status, which wakes the requests that
//!    wait for a token, and logs each change.
//! 4. At about half of its lifetime a successor is fetched. A failed fetch never replaces a token: it serves until it
//!    expires by the monotonic or by the wall clock.
//! 5. A token that the upstream rejects, or that a request finds expired, wakes the refresher; it fetches once,
//!    whatever the number of requests.
//!
//! # Life of a problem
//!
//! 1. What fails is named where its facts are known: a refused certificate in `tls/verifier`, a step on the way to a host
//!    in `upstream/destination`, a refusal of the identity service in `token/refusal`, a key in `config/validation`, an
//!    address in `server/listener/bind`, a caller's request in `proxy/authorization` and `server/connection`. The code there calls a
//!    function of [`problems`] with the values that cause and fix name.
//! 2. The problem travels in the error: in a response (`server/problem`), in the status of a token (`token/status`) or of an
//!    API (`upstream/status`), in a fault of the configuration, in a step of `cli/check`. Each of them shows its text; none
//!    has a text of its own.
//! 3. The log has a line for it: where it begins and where it ends, or with each request. `telemetry/recent` counts
//!    these lines for an hour. `cli/support` writes them, with everything else that a support case needs, into one file.
//!
//! # Life of a configuration
//!
//! 1. File and environment are parsed into types (`config/load`), or every error is reported with its line.
//! 2. `daemon/active_config` builds the active configuration from it: upstreams, listeners, routers. A reload builds the next one by the
//!    same code beside the active one, and keeps from it what has not changed: tokens, connections, TLS sessions.
//! 3. Only when everything is built, `daemon/reload` replaces each listener's router and TLS settings, as one value. A request uses
//!    those that were active when it began. An error rejects the reload as a whole.
//! 4. `daemon/active_config` compares settings that are read only at start (`daemon/reloadable_keys` has the keys) with those
//!    of the start, and `daemon/reload` reports the differences.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod platform;
pub mod problems;
pub mod proxy;
pub mod server;
pub mod simulator;
pub mod spelling;
pub mod spool;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod upstream;
