//! Commands that query a running bondgate.

use super::entry::problems;

problems! {
    area Command;

    not_reachable(address, reason, service) "daemon-not-reachable" Error
        cause "no bondgate responds at {address} ({reason})"
        fix "start it with `bondgate run` ({service}), or name the admin listener of the running one with --address or --config"
        explanation "The command queries the admin listener: the one of --address, else of the configuration that a start would \
            read, else localhost:9180. A daemon that has ended, or one with another configuration, does not respond there.";
    not_bondgate(address, reason) "admin-not-bondgate" Error
        cause "{address} does not respond as bondgate's admin listener ({reason})"
        fix "correct --address; add --tls if that listener has tls"
        explanation "Another program listens there, or the listener speaks TLS and --address was given without --tls.";
    response_incomplete(address, reason) "admin-response-incomplete" Error
        cause "the response of the admin listener at {address} is incomplete ({reason})"
        fix "run the command again; if the response is incomplete again, restart bondgate, or correct --address if another program \
            listens there"
        explanation "bondgate ended before it had sent the response, or needed more than 2 s, or another program listens there. \
            The commands read at most 4 MiB of a response.";
    configuration_unreadable(file, address) "admin-address-from-default" Warning
        cause "this user may not read {file}, which has the address of the admin listener: {address} is asked"
        fix "run the command as root or as bondgate's user, or set the address with --address"
        explanation "The configuration sets the admin listener in [admin]; without it, localhost:9180 is used.";
    needs_certificate(address) "admin-needs-certificate" Error
        cause "the admin listener at {address} requires a client certificate"
        fix "add --certificate FILE and --key FILE with one from tls.client_ca_file of [admin]"
        explanation "`bondgate probe live` needs none: a listener that asks for a certificate is alive.";
    socket_denied(address) "admin-socket-denied" Error
        cause "this user may not connect to the admin listener at {address}"
        fix "run the command as root or as bondgate's user"
        explanation "On a unix socket, the mode and the owner of the socket's file, and of the directories above it, say who may connect.";
    refuses(address, status) "admin-refuses-this-machine" Error
        cause "the admin listener at {address} refuses this machine ({status})"
        fix "add 127.0.0.1 and ::1 to allow in [admin], and reload"
        explanation "allow in [admin] limits who may read status and metrics. Health checks of the same machine are always \
            answered.";
    address_unknown(name) "admin-address-unknown" Error
        cause "only systemd knows the address of the admin listener (systemd:{name})"
        fix "set it with --address, as ListenStream= of the .socket unit has it"
        explanation "bondgate gets the socket from systemd, under the name that the configuration gives.";
}
