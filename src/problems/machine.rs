//! What a start needs of the machine.

use super::entry::problems;

problems! {
    area Machine;

    port_taken(address, holder, setting) "port-taken" Error
        cause "{address} is in use by {holder}"
        fix "stop that program, or set {setting} to another address; if systemd holds it for a .socket unit, set {setting} = \
            \"systemd:NAME\" with its FileDescriptorName"
        explanation "Only one program can listen on an address and port. A bondgate that runs the same configuration holds its \
            ports rightly: the check asks its admin listener and reports nothing then. `ss -ltnp` (Windows: \
            `netstat -abno`) shows who listens.";
    port_held_by_bondgate(address, holder, setting) "port-held-by-bondgate" Warning
        cause "{address} is held by {holder}"
        fix "reload or restart that one, if this configuration is to replace its own; for a second bondgate, set {setting} to another \
            address"
        explanation "A bondgate of another configuration runs here, as before a copy of its configuration is put in place. Two \
            cannot listen on one address.";
    port_privileged(address, setting) "port-privileged" Error
        cause "{address} is a port below 1024, which needs a privilege that bondgate's user does not have"
        fix "set {setting} to a port from 1024 on, or let systemd listen there (config/systemd)"
        explanation "Ports below 1024 need CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start. A check that runs \
            as root has the privilege, and the service's user may not.";
    address_foreign(address, setting) "address-foreign" Error
        cause "this machine does not have the address of {address}"
        fix "set {setting} to an address that `ip address` shows, or to localhost"
        explanation "The address belongs to another machine, to an interface that is down, or to a cluster that has not assigned \
            it yet.";
    unix_directory_missing(address) "unix-directory-missing" Error
        cause "the directory of {address} does not exist"
        fix "create it for bondgate's user (systemd: RuntimeDirectory=)"
        explanation "bondgate creates the socket's file and not its directory, since the directory decides who may connect.";
    unix_directory_not_writable(address) "unix-directory-not-writable" Error
        cause "bondgate's user may not create files in the directory of {address}"
        fix "make the directory writable for bondgate's user"
        explanation "A unix socket is a file: listening creates it.";
    unix_path_taken(address, setting) "unix-path-taken" Error
        cause "a file that is no socket exists at {address}"
        fix "move it, or set {setting} to another path"
        explanation "bondgate replaces a socket that a crash left behind, and no other file.";
    unix_path_too_long(address, setting) "unix-path-too-long" Error
        cause "the path of {address} is too long for a unix socket"
        fix "set {setting} to a path of at most 107 bytes"
        explanation "The limit is the system's (unix(7)).";
    socket_not_inherited(name) "socket-not-inherited" Error
        cause "systemd passes no socket named {name}"
        fix "run `systemctl status bondgate.socket`: it has failed if its port is in use; a unit of your own needs \
            FileDescriptorName={name}, and systemd must start the service"
        explanation "address = \"systemd:NAME\" takes over a socket that systemd has opened (sd_listen_fds(3)). The check looks \
            for its name in the .socket units of this machine.";
    listen_failed(address, reason) "listen-failed" Error
        cause "bondgate cannot listen on {address} ({reason})"
        fix "choose another address, or correct what the system reports"
        explanation "The system refused for a reason that has no entry of its own.";
    descriptors_too_few(limit) "descriptors-too-few" Error
        cause "this process may open only {limit} files"
        fix "raise LimitNOFILE in the unit, or ulimit -n, to 1024 at least"
        explanation "Each connection of a caller and to the API takes a file descriptor. bondgate raises its soft limit to the hard \
            one itself."
        hides "listen-failed";
    spool_open_to_others(file, closing) "spool-open-to-others" Warning
        cause "every user of this machine may write in the spool's directory {file}, and remove or replace messages"
        fix "run: {closing}"
        explanation "Or set spool.directory to a directory in it, which bondgate creates for its user alone.";
    spool_read_only(file) "spool-read-only" Error
        cause "the spool's directory {file} is on a read-only disk: nothing is pulled until it is writable"
        fix "mount the disk writable, or set spool.directory to a directory on another one"
        explanation "Pushes work. A pull gets 503, since its message could not be stored."
        hides "spool-disk-full";
    spool_disk_full(file, reason) "spool-disk-full" Error
        cause "the disk of the spool's directory {file} has no room for a message ({reason})"
        fix "free 2 MiB or more, or raise the quota of bondgate's user"
        explanation "Before each pull, 2 MiB are reserved. While that fails, nothing is pulled, and callers get 503.";
    spool_file_size_limit(limit) "spool-file-size-limit" Error
        cause "this process may write files of at most {limit} bytes: nothing can be pulled"
        fix "raise LimitFSIZE in the unit, or ulimit -f, to 2 MiB at least"
        explanation "Before each pull, a file of 2 MiB is reserved."
        hides "spool-disk-full";
    spool_unusable(file, reason) "spool-unusable" Error
        cause "bondgate cannot create files in the spool's directory {file} ({reason})"
        fix "make the directory and everything in it belong to bondgate's user"
        explanation "A spool that another user has created, as a check or a test run as root does, cannot be read by the service.";
    sandbox_incomplete(reason) "sandbox-incomplete" Warning
        cause "a part of the sandbox is missing: {reason}"
        fix "if this machine cannot have it, do nothing: bondgate runs without it; for all of it, run Linux 6.12 or newer with \
            Landlock (5.13 limits files, 6.7 ports too), and let the container's seccomp profile allow Landlock's system calls"
        explanation "The sandbox limits what an attacker gains who exploits a bug. bondgate runs without the missing part.";
    sandbox_misfit(reason) "sandbox-misfit" Warning
        cause "the sandbox does not fit the configured files: {reason}"
        fix "give these files a directory of their own that exists before the start"
        explanation "The sandbox is fixed at the start and allows directories, so that files can be replaced in them.";
    sandbox_denies(key, file) "sandbox-denies" Error
        cause "the sandbox denies reading {file} ({key})"
        fix "move it to a directory of its own, or set sandbox = false in [server]"
        explanation "The file can be read now and not by the running daemon, which could not read it again when it changes.";
}
