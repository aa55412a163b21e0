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
    memory_full(messages, bytes) "spool-memory-full" Error
        cause "spool.memory is full with {messages} messages of {bytes} bytes that no caller took"
        fix "let callers take the stored messages, set spool.directory, or raise spool.memory"
        explanation "Without spool.directory, messages wait in memory. Nothing is pulled until one is taken, so that nothing is lost.";
    nearly_full(percent, messages) "spool-nearly-full" Warning
        cause "the spool is filled to {percent} % with {messages} messages that no caller took"
        fix "let callers take the stored messages; when it is full, nothing is pulled"
        explanation "spool.messages and spool.bytes bound it, or spool.memory without a directory. This is reported from 80 % on.";
    link(file) "spool-link" Error
        cause "{file} is a symbolic link; nothing is pulled for its queue"
        fix "replace it by a directory"
        explanation "Messages behind a link would not be found again once it leads elsewhere, so nothing is pulled for its queue.";
    unusable(reason) "spool-failed" Error
        cause "the spool's directory cannot be used ({reason})"
        fix "free disk space, raise a file-size limit of bondgate's process (ulimit -f, LimitFSIZE=), and make the directory writable"
        explanation "A pull takes a message off Cisco's queue. Without a place to store it, nothing is pulled.";
    directory_missing(file) "spool-directory-missing" Error
        cause "the spool's directory {file} is gone"
        fix "move it back; if it has to be mounted or created again, do that for bondgate's user and restart bondgate"
        explanation "It was removed, moved or unmounted while bondgate runs. Nothing is pulled until it exists, since no message could \
            be stored. Another directory needs a restart: the sandbox allows the one of the start.";
    file_unusable(file, reason) "spool-file-unusable" Error
        cause "the spool's file {file} cannot be used ({reason}), and is left as it is"
        fix "if permission is denied, chown it to bondgate's user"
        explanation "Its message is skipped, and newer ones are delivered. It is tried again at each pull.";
    files_unknown(count, file, reason) "spool-files-unknown" Error
        cause "{count} files in the spool are another version's, and are left as they are; the first is {file} ({reason})"
        fix "run the bondgate that wrote them, or a newer one, with this spool; `bondgate spool list` names each, and \
            `bondgate spool discard` removes one"
        explanation "Their format, state or place is not known to this version, as after a downgrade. Their messages are neither \
            delivered nor counted here, and all others are delivered. Files of other programs are not reported.";
    queue_unrequested(count, queue, remedy) "spool-queue-unrequested" Warning
        cause "{count} undelivered messages are in the queue {queue}, which no consuming rule of the configuration requests"
        fix "{remedy}"
        explanation "A queue belongs to a host, a client id and a path. After a change of one of them in the configuration, its messages \
            would wait for ever. `bondgate spool move` moves them, also beside a running bondgate; without a change, `bondgate spool \
            show` prints and `bondgate spool discard` removes one.";
    files_damaged(count) "spool-files-damaged" Error
        cause "damaged files in the spool: {count}; their messages are not delivered"
        fix "`bondgate spool list` names them and `bondgate spool show` prints what they hold; look for these messages at Cisco, then \
            `bondgate spool discard` each"
        explanation "A file's digest does not match its content. The disk, or another program, has changed it.";
    messages_lost(count) "messages-lost" Error
        cause "pulled messages that may be lost: {count}; their pulls were sent, and no whole response was stored"
        fix "`bondgate spool list` shows when each was pulled; look for it at Cisco, then `bondgate spool discard` each"
        explanation "A pull takes a message off Cisco's queue and cannot be repeated. The connection, bondgate or the machine failed \
            before the response was stored.";
    undelivered_lost(count, place) "undelivered-messages-lost" Error
        cause "pulled messages that no caller received, lost with {place}: {count}"
        fix "look for them at Cisco by the time of each pull, which the log has; next time, let callers take them before the stop, or \
            set spool.directory to a directory on a persistent volume, and spool.persistent to true"
        explanation "bondgate has ended, and its messages were in its memory, or in a directory that does not outlive the pod or \
            container (spool.persistent = false). If only the container was restarted, its directory and the messages are still there.";
    dead_letters(count) "dead-letters" Warning
        cause "dead letters in the spool: {count}; their deliveries failed, and newer messages were delivered"
        fix "look at the caller's log, then run `bondgate spool requeue --dead-letters`, or `bondgate spool discard` each"
        explanation "A message that fails five times is set aside if the next message can be delivered to the same caller. In memory \
            (without spool.directory), dead letters are lost when bondgate ends.";
    messages_failing(count) "messages-failing" Error
        cause "messages whose delivery failed five times or more: {count}; they stay in the queue"
        fix "look at the log of the caller that pulls them; `bondgate spool list` names them"
        explanation "Each time, the connection ended before the caller had the whole message.";
    messages_overdue(count, oldest) "messages-overdue" Warning
        cause "messages that wait for a caller: {count}, the oldest since {oldest}"
        fix "let a caller pull; `bondgate spool list` names them"
        explanation "A message has waited for over an hour: no caller pulls, or deliveries fail.";
    caller_at_fault(caller) "caller-takes-nothing" Error
        cause "caller {caller} takes no pulled message: its connections were reset during several messages"
        fix "look at the caller's own log, and restart it; the messages stay in the queue, and other callers can pull them"
        explanation "Five deliveries of one message failed, and the next message failed at the same caller, so that the caller is at \
            fault and not the message.";
    locked(queue) "spool-locked" Warning
        cause "another process holds the lock of the spool's queue {queue}"
        fix "wait for its pull to end; if another bondgate or program uses this spool for good, stop it or set another spool.directory"
        explanation "Two bondgates share a spool during a hand-over. One process at a time pulls from a queue, to keep the order of its \
            messages.";
    not_stored(reason) "message-not-stored" Error
        cause "a pulled message cannot be stored ({reason}), and is passed through to its caller alone"
        fix "free disk space, raise a file-size limit (ulimit -f, LimitFSIZE=), spool.bytes or spool.memory"
        explanation "The message is lost if its caller disconnects before it has all of it. The log reports that as messages-lost.";
    pull_waits() "pull-waiting" Warning
        cause "another pull of this queue is under way"
        fix "pull again in a moment"
        explanation "The requests of a queue are sent one after the other, to keep the order of its messages.";
    pull_continues() "pull-continues" Warning
        cause "there was no message within timeout.head"
        fix "do nothing: the pull continues, and the next request gets its message"
        explanation "The pull was sent, and may take a message off the queue. bondgate reads its response to the end.";
    pull_incomplete() "pull-incomplete" Error
        cause "the response to the pull is incomplete"
        fix "look for its message at Cisco: it may be lost, and bondgate's log reports it with the time of the pull"
        explanation "The connection to the API broke within the response.";
}
