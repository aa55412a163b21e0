//! The messages in the spool, and the pulls that bring them.

use super::entry::problems;

problems! {
    area Spool;

    full(messages, bytes) "spool-full" Error
        cause "the spool is full with {messages} messages of {bytes} bytes that no caller took"
        fix "let callers take the stored messages, or remove them: `bondgate spool list` names them, `bondgate spool discard` removes one"
        explanation "spool.messages and spool.bytes bound it. Nothing is pulled until a message is taken, so that nothing is lost.";
    caller_paused(caller, failures) "caller-paused" Error
        cause "the next message is paused for caller {caller} after failed deliveries ({failures}): each time the connection ended \
            before the caller had the whole message"
        fix "read the whole response and close the connection in order; other callers get the message at once"
        explanation "A message is delivered when the caller's system has acknowledged all of it. A caller that fails repeatedly must \
            not take one message after the other.";
    link(file) "spool-link" Error
        cause "{file} is a symbolic link"
        fix "replace it by a directory"
        explanation "Messages behind a link would not be found again once it leads elsewhere, so nothing is pulled for its queue.";
    unusable(reason) "spool-failed" Error
        cause "the spool's directory cannot be used ({reason})"
        fix "free disk space, raise a file-size limit of bondgate's process (ulimit -f, LimitFSIZE=), and make the directory writable"
        explanation "A pull takes a message off Cisco's queue. Without a place to store it, nothing is pulled.";
    pull_waits() "pull-waiting" Warning
        cause "another pull of this queue is under way"
        fix "nothing: pull again in a moment"
        explanation "The requests of a queue are sent one after the other, to keep the order of its messages.";
    pull_continues() "pull-continues" Warning
        cause "there was no message within timeout.head"
        fix "nothing: the pull continues, and the next request gets its message"
        explanation "The pull was sent, and may take a message off the queue. bondgate reads its response to the end.";
    pull_incomplete() "pull-incomplete" Error
        cause "the response to the pull is incomplete"
        fix "look for its message at Cisco: it may be lost, and bondgate's log reports it with the time of the pull"
        explanation "The connection to the API broke within the response.";
}
