//! The configuration: a file, the environment, and rules between keys.

use super::entry::problems;

problems! {
    area Configuration;

    no_configuration() "no-configuration" Error
        cause "there is no configuration: no file was given or found (./bondgate.toml, /etc/bondgate/bondgate.toml), and the \
               environment sets none"
        fix "run `bondgate init`, which asks for what is needed and writes a file; or set BONDGATE_PRESET, BONDGATE_CLIENT_ID and \
             BONDGATE_CLIENT_SECRET_FILE; or try `bondgate demo`"
        explanation "A file and the environment can each hold the whole configuration; the environment overrides the file.";
    empty(file) "configuration-empty" Error
        cause "{file} sets no key, and neither does the environment"
        fix "remove it and run `bondgate init --config {file}`, or write [upstream.cisco] with preset, client_id and client_secret there"
        explanation "A file whose lines all begin with # is empty, too. config/example.toml shows every key.";
    syntax(error) "config-syntax" Error
        cause "{error}"
        fix "correct the line; the file is TOML"
        explanation "The configuration is TOML: KEY = VALUE, with text in quotes, below the [TABLE] that it belongs to. After an \
            error of syntax, missing and unknown keys are not reported, since the error may hide or make them."
        hides "config-key-missing" "config-key-unknown";
    key_unknown(advice) "config-key-unknown" Error
        cause "is not a key here"
        fix "{advice}"
        explanation "An unknown key has no effect, and is refused because it is a misspelled one as a rule. It may also belong to \
            another table. config/example.toml shows every key.";
    key_renamed(key, written) "config-key-renamed" Warning
        cause "is the old name of {key}"
        fix "write {written}: the next release no longer accepts the old name"
        explanation "The key has a new name in this version, which accepts the old one, too. The CHANGELOG says why it was renamed.";
    key_missing(form) "config-key-missing" Error
        cause "is missing"
        fix "{form}"
        explanation "The key has no default, and the preset sets none.";
    value_wrong(wrong, form) "config-value-wrong" Error
        cause "{wrong}"
        fix "{form}"
        explanation "The value has the wrong form, or is outside of what is possible. config/example.toml shows the form of each key.";
    keys_conflict(conflict, remedy) "config-keys-conflict" Error
        cause "{conflict}"
        fix "{remedy}"
        explanation "Two keys contradict each other, or a check has no effect where it is set. It is refused because an operator may \
            rely on it.";
    variable_wrong(wrong, form) "variable-wrong" Error
        cause "{wrong}"
        fix "{form}"
        explanation "BONDGATE__SECTION__KEY sets any key of the configuration; list entries are addressed by number, from 0.";
    variable_unknown(name) "variable-unknown" Warning
        cause "the environment variable {name} is not known to bondgate"
        fix "remove it, or set any key with BONDGATE__SECTION__KEY"
        explanation "Its name begins with BONDGATE_, and it has no effect.";
    plain_http(danger, remedy) "plain-http-url" Error
        cause "is plain http{danger}"
        fix "{remedy}"
        explanation "Over plain HTTP everyone on the way can read the client secret and the token.";
    listener_unprotected(address, checks) "listener-unprotected" Error
        cause "{address} can be reached from other machines, and nothing restricts the callers"
        fix "set {checks} or tls.client_ca_file, or listen on localhost"
        explanation "Without a restriction, every machine that reaches the listener calls Cisco's API with your credentials.";
    without_hosts(address, name) "listener-without-hosts" Warning
        cause "is not set: {address} can be reached from other machines, and callers that use a name instead of an address get 421"
        fix "write hosts = [\"{name}\"], with each name that callers use"
        explanation "A name that a web page has rebound to this machine must not reach the listener, so only listed names are accepted, \
            besides loopback names, addresses and the upstream's own name.";
    backslash() "toml-backslash-in-quotes" Error
        cause "has a backslash in double quotes, where it begins an escape (\\t is a tab)"
        fix "write the text in single quotes, like 'C:\\path'"
        explanation "TOML takes text in single quotes as it is. In double quotes, a backslash is written twice.";
    variable_not_utf_8(name) "variable-not-utf-8" Error
        cause "the environment variable {name} is not UTF-8"
        fix "set it to text in UTF-8; a path with other bytes can be set by --config and by links alone"
        explanation "Its value would be changed, and a path would become another one.";
    pages_may_pull() "pages-may-pull" Warning
        cause "is the only check of plain HTTP from other machines: a web page in a browser on one of them can pull a message with a \
               GET that looks like that of a program"
        fix "set require_header = \"X-Bondgate\", keys, or tls"
        explanation "Over plain HTTP to another machine, a browser sends a GET without its origin and without any sign that it is a \
            browser. A header that a page cannot send, a key or TLS tells programs from pages.";
    listeners_collide(address, other) "listeners-collide" Error
        cause "{address} and {other} have an address and port in common"
        fix "give each listener (and [admin]) its own"
        explanation "localhost is 127.0.0.1 and ::1; 0.0.0.0 and [::] are every address of this machine.";
    upstream_is_bondgate(address) "upstream-is-bondgate" Error
        cause "leads back to bondgate itself, which listens on {address}"
        fix "write the API's own address"
        explanation "Each request would go around in a circle.";
    secret_in_configuration(name) "secret-in-configuration" Warning
        cause "is in the configuration itself"
        fix "keep it in a file of its own: {name} = {{ file = \"/path\" }}"
        explanation "A secret in a file of its own can be replaced while bondgate runs, and is not copied with the configuration.";
    secret_in_environment(variable, advice) "secret-in-environment" Warning
        cause "is in the environment ({variable}), where it is visible in the process and in the settings of its container, and \
               cannot change while bondgate runs"
        fix "keep it in a file: {advice}"
        explanation "The environment of a process is readable in /proc by its user and root, and by all who may inspect its container.";
    proxy_of_environment_unused(variable) "proxy-of-environment-unused" Warning
        cause "is not set, and {variable} of the environment is not used"
        fix "to use it, set proxy = \"environment\""
        explanation "bondgate takes the outbound proxy of the environment only if the configuration says so.";
    proxy_url_wrong(place) "proxy-url-wrong" Error
        cause "{place} is not \"http://host:port\" or \"http://user:password@host:port\""
        fix "correct the URL; SOCKS proxies and proxies that need TLS cannot be used"
        explanation "The URL comes from the key proxy, from the file or variable that it names, or from HTTPS_PROXY of the \
            environment if proxy = \"environment\". Everything before its last @ is user and password.";
    proxy_url_has_lines(source) "proxy-url-has-lines" Error
        cause "the URL of the outbound proxy in {source} has several lines"
        fix "write the URL there, alone on one line"
        explanation "A file with the URL holds nothing else.";
    proxy_url_needs_encoding(place) "proxy-url-needs-encoding" Error
        cause "{place} has a character in user or password that must be percent-encoded"
        fix "write @ as %40, # as %23, / as %2F, ? as %3F, % as %25, \\ as %5C, a blank as %20, and any other special character as % and \
             its two hexadecimal digits"
        explanation "In a URL these characters end user and password, or are not allowed. Sent as they are, a part of the password \
            would be taken for the host and reach the name server.";
    no_proxy_entry_ignored(entry) "no-proxy-entry-ignored" Warning
        cause "the entry {entry} of NO_PROXY means nothing, and is ignored"
        fix "write a name, an address or a network, each with an optional port, like .corp.example, 10.0.0.0/8 or host:8443"
        explanation "Entries are separated by commas or blanks. name, .name and *.name exempt the name and all below it, and * exempts \
            every host. Prefixes of addresses (10.0.*) and URLs are not understood.";
    spool_in_memory(upstream) "spool-in-memory" Warning
        cause "is not set: messages pulled from {upstream} are held in memory until they are delivered, and are lost when bondgate \
               ends"
        fix "set it (or BONDGATE_SPOOL_DIRECTORY) to a persistent directory"
        explanation "A pull takes the message off Cisco's queue. Without a directory, a restart loses what no caller has received.";
    spool_not_persistent(directory, upstream) "spool-not-persistent" Warning
        cause "is false: messages pulled from {upstream} that no caller has received are lost when the pod or container that has \
               {directory} is removed, as in a rollout"
        fix "let callers take all messages before a rollout; or put the directory on a persistent volume and set it to true"
        explanation "A pull takes the message off Cisco's queue. With false, a stop that leaves messages in the directory is logged \
            with each of them and has the exit code 1, as with messages in memory. A restart of the container alone, which keeps \
            the directory, loses none.";
    connections_limited(most, configured, descriptors) "connections-limited" Warning
        cause "limits.connections is {most} and not {configured}: this process may open {descriptors} files, and half of them is for \
               calls upstream"
        fix "raise LimitNOFILE or ulimit -n"
        explanation "Each connection of a caller may need another one upstream.";
    log_level_wrong(level) "log-level-wrong" Error
        cause "{level} is not a level"
        fix "write error, warn, info, debug or trace, or levels by module, like \"warn,bondgate=debug\""
        explanation "A level alone applies to bondgate; libraries stay at warnings.";
    log_file_not_writable(file, error) "log-file-not-writable" Error
        cause "cannot open {file}: {error}"
        fix "let bondgate's user write there, or set log.file to another path"
        explanation "bondgate appends to the file, and creates it if its directory allows that.";
    rules_wrong(error) "rules-wrong" Error
        cause "{error}"
        fix "correct the path of the rule"
        explanation "The path of a request is compared after checks that refuse dot segments, empty segments and encoded slashes, so \
            that such a rule would never match.";
    group_missing(group) "group-missing" Error
        cause "there is no group \"{group}\" on this machine"
        fix "use a group of /etc/group, or its number"
        explanation "The group of a unix socket may connect if mode allows it. Groups are looked up in /etc/group, or given by number.";
    spool_not_writable(directory, reason) "spool-not-writable" Error
        cause "cannot write to {directory} ({reason})"
        fix "make it a directory that bondgate's user can write to"
        explanation "Pulled messages are stored there before a caller gets them. bondgate creates the directory if its parent allows \
            that.";
    reload_rejected(source) "reload-rejected" Error
        cause "the changed configuration is not applied: {source}"
        fix "correct it and reload again, or restart bondgate where it says so"
        explanation "A reload applies everything or nothing. Faults of single keys have codes of their own; this is what the configuration \
            as a whole cannot do while bondgate runs.";
}
