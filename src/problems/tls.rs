//! Certificates, TLS and the clock.

use super::entry::problems;
use crate::platform::shell::SET_CLOCK;

problems! {
    area Tls;

    clock_wrong(now, built) "clock-wrong" Error
        cause "this machine's clock says {now}, before bondgate was built ({built})"
        fix "set the clock, and run NTP ({SET_CLOCK})"
        explanation "With a wrong clock, certificates seem expired or not yet valid, and tokens expire at the wrong time."
        hides "clock-wrong" "certificate-expired" "certificate-not-yet-valid" "clock-skew" "tokens-expire-at-once";
    clock_skew(seconds) "clock-skew" Warning
        cause "this machine's clock is {seconds} s off the identity service's"
        fix "run NTP on this machine ({SET_CLOCK})"
        explanation "The Date of the identity service's response differs from this machine's clock. Lifetimes of tokens are \
            measured from the request, so that a skew does no harm until certificates are judged by it.";
    certificate_expired(call, to, not_after, now) "certificate-expired" Error
        cause "the certificate of {to} ({call}) expired on {not_after}; this machine's clock says {now}"
        fix "if the clock is right, the certificate's owner must renew it; else set the clock ({SET_CLOCK})"
        explanation "The expired certificate can also be that of a device which intercepts TLS, or an intermediate one.";
    certificate_not_yet_valid(call, to, not_before, now) "certificate-not-yet-valid" Error
        cause "the certificate of {to} ({call}) is valid from {not_before}; this machine's clock says {now}"
        fix "set the clock ({SET_CLOCK}); if it is right, the certificate's owner must replace it"
        explanation "As a rule the machine's clock is late: after a start without a battery, or in a restored virtual machine.";
    certificate_expires_soon(to, not_after) "certificate-expires-soon" Warning
        cause "the certificate of {to} expires on {not_after}"
        fix "its owner must renew it before; if it is in a file of this machine, write its successor there"
        explanation "Certificates are renewed in good time as a rule. One with less than 30 days left may have been forgotten.";
    certificate_wrong_name(call, to, names) "certificate-wrong-name" Error
        cause "the certificate of {to} ({call}) is for {names}, not for this name"
        fix "correct the host in the configuration, or the server's owner must issue a certificate for it"
        explanation "Another server responds in the name's place: a wrong DNS entry, a default virtual host, or a device in between.";
    certificate_self_signed(call, to, subject) "certificate-self-signed" Error
        cause "the certificate of {to} ({call}) is self-signed by {subject}, which this machine does not trust"
        fix "if that is your own test server, set ca_file to a PEM file with this certificate; else a device in between answers"
        explanation "No public authority has signed it. Cisco's hosts have certificates of public authorities, so a self-signed \
            one is from a test server, an appliance or an interceptor.";
    certificate_is_ca(call, to, subject) "certificate-is-ca" Error
        cause "the certificate of {to} ({call}), {subject}, is marked as a certificate authority's and cannot be a server's"
        fix "issue it again with basicConstraints = CA:FALSE (openssl req -x509 -addext basicConstraints=critical,CA:FALSE)"
        explanation "`openssl req -x509` marks certificates as an authority's by default. It is refused even if ca_file holds it.";
    unknown_ca(call, to, subject, issuer) "unknown-ca" Error
        cause "the certificate of {to} ({call}), {subject}, is issued by {issuer}, which this machine does not trust"
        fix "set ca_file to a PEM file with the certificate of {issuer}; if that is a public authority, the server leaves out an \
             intermediate certificate, and its owner must add it"
        explanation "Two causes look the same from here: a private authority (your company's, a test system's), or a server that \
            does not send its intermediate certificate. For both, ca_file with the issuer's certificate helps. \
            `openssl s_client -connect HOST:PORT -showcerts` shows what the server sends.";
    tls_intercepted(call, to, vendor, issuer) "tls-intercepted" Error
        cause "{vendor} intercepts TLS to {to} ({call}): its certificate is issued by {issuer}"
        fix "get the root certificate of {vendor} as PEM from your network team and set ca_file to it; or have {to} exempted"
        explanation "A security device opens TLS and signs certificates itself. Windows machines of the company trust it by policy; \
            bondgate needs its root in ca_file. From a Windows machine: certmgr.msc, Trusted Root Certification Authorities, \
            export as Base-64.";
    certificate_version_1(call, to) "certificate-version-1" Error
        cause "the certificate of {to} ({call}) is X.509 version 1, which is not accepted"
        fix "its operator must replace it by one of version 3"
        explanation "`openssl x509 -req` without extensions makes version 1, which has no names to check.";
    certificate_invalid(call, to, reason) "certificate-invalid" Error
        cause "the certificate of {to} ({call}) cannot be used ({reason})"
        fix "its operator must replace it"
        explanation "It is damaged, revoked, not meant for servers, or signed by an algorithm that is no longer accepted.";
    tls_version_old(call, to) "tls-version-old" Error
        cause "{to} ({call}) speaks only TLS 1.1 or older"
        fix "its operator, or the operator of the device in between, must enable TLS 1.2"
        explanation "TLS 1.0 and 1.1 are insecure (RFC 8996). Cisco's hosts speak 1.2 and newer, so a device in between answers.";
    tls_no_common_cipher(call, to) "tls-no-common-cipher" Error
        cause "{to} ({call}) and bondgate have no TLS cipher suite in common"
        fix "its operator, or the operator of the device in between, must enable an ECDHE suite with AES-GCM"
        explanation "bondgate offers the suites of TLS 1.3, and of 1.2 those with forward secrecy and authenticated encryption.";
    tls_client_certificate_wanted(call, to) "tls-client-certificate-wanted" Error
        cause "{to} ({call}) requires a client certificate, which bondgate does not send"
        fix "correct host and port in the configuration; if they are right, have its operator exempt this machine"
        explanation "Cisco's hosts require none: another server, or a gateway in between, answers.";
    tls_alert(call, to, alert) "tls-alert" Error
        cause "{to} ({call}) ended the TLS handshake with the alert {alert}"
        fix "ask its operator why; it may expect another server name"
        explanation "RFC 8446 §6.2 describes the alerts.";
    tls_not_spoken(call, to) "tls-not-spoken" Error
        cause "{to} ({call}) does not speak TLS on this port"
        fix "correct the port in the configuration (443 as a rule); behind a plain proxy, set proxy"
        explanation "The bytes that arrive are no TLS: a plain HTTP server, another service, or a page of a device in between.";
    tls_silent(call, to) "tls-silent" Error
        cause "{to} ({call}) accepts the connection and does not finish the TLS handshake"
        fix "ask for the firewall or inspection device on the way to allow {to}"
        explanation "TCP connects, and the handshake has no answer within timeout.connect. Devices that inspect TLS do so when they \
            cannot reach the server themselves.";
    roots_missing() "roots-missing" Error
        cause "this machine has no trusted certificates"
        fix "install ca-certificates, or set ca_file or SSL_CERT_FILE"
        explanation "Minimal images and chroots have no file with the certificates of public authorities."
        hides "unknown-ca" "tls-intercepted" "certificate-self-signed" "sandbox-misfit";
    roots_unusable(variable, file, reason) "system-roots-unusable" Error
        cause "{variable} names {file}, which has no certificates to trust ({reason})"
        fix "correct it, or unset it: then the system's own are used"
        explanation "SSL_CERT_FILE (a PEM file) and SSL_CERT_DIR (directories of PEM files) replace the certificates of the system."
        hides "sandbox-misfit";
    tls_failed(call, to, reason) "tls-failed" Error
        cause "the TLS handshake with {to} ({call}) failed ({reason})"
        fix "ask the operator of the server, or of a device in between; `openssl s_client -connect {to}` shows the handshake"
        explanation "The other side violates the protocol.";
}
