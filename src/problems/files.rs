//! Files that the configuration names: secrets, caller keys, certificates.

use super::entry::problems;
use crate::platform::shell::SET_CLOCK;

problems! {
    area Configuration;

    missing(file) "file-missing" Error
        cause "cannot read {file}: it does not exist"
        fix "write the file, or correct its path"
        explanation "Relative paths in the configuration file are relative to its directory."
        hides "sandbox-misfit";
    unreadable(file, reason) "file-not-readable" Error
        cause "cannot read {file}: {reason}"
        fix "check the file system that it is on"
        explanation "The operating system reports the reason.";
    denied(file) "file-permission-denied" Error
        cause "cannot read {file}: permission denied"
        fix "let bondgate's user read it; if the path is a link that now leads to another directory, restart bondgate: its sandbox \
             allows the old one only"
        explanation "The file, or a directory on the way to it, cannot be read by the user that bondgate runs as.";
    not_regular(file) "file-not-regular" Error
        cause "cannot read {file}: it is not a regular file"
        fix "name a file, which can be read again for each use"
        explanation "A pipe would block, or be empty at the next use. A shell's <(command) is such a pipe.";
    is_directory(file, example) "file-is-directory" Error
        cause "cannot read {file}: it is a directory"
        fix "name the file in it, like {example}"
        explanation "Kubernetes and Docker mount a secret as a directory with a file for each of its keys.";
    in_utf_16(file, conversion) "file-in-utf-16" Error
        cause "{file} is in UTF-16, not UTF-8"
        fix "run: {conversion}"
        explanation "PowerShell's > and Out-File, and \"Unicode\" in Notepad, write UTF-16. bondgate reads UTF-8, with or without a \
            byte order mark, and with line breaks of Windows.";
    in_utf_32(file, conversion) "file-in-utf-32" Error
        cause "{file} is in UTF-32, not UTF-8"
        fix "run: {conversion}"
        explanation "An editor or a script has chosen this encoding. bondgate reads UTF-8.";
    not_utf_8(file, line, conversion) "file-not-utf-8" Error
        cause "{file} is not UTF-8 (line {line})"
        fix "run: {conversion}"
        explanation "As a rule an editor wrote it in the code page of Windows. If the command does not give the right characters, \
            save the file as UTF-8 in an editor.";
    too_large(file, most) "file-too-large" Error
        cause "cannot read {file}: it is over {most} MiB"
        fix "correct the path; it is another file"
        explanation "Secrets, caller keys, certificates and configurations are small; a large file is named by mistake.";
    writable_by_others(closing) "file-writable-by-others" Error
        cause "names a file that every user of this machine may change"
        fix "run: {closing}"
        explanation "Who may change the file decides which secret is used. Files on a read-only mount are accepted.";
    readable_by_others(closing) "file-readable-by-others" Warning
        cause "names a file that every user of this machine may read"
        fix "run: {closing}"
        explanation "It holds a secret. Files on a read-only mount, as Docker and Kubernetes make them, are not reported.";
    empty(file) "secret-empty" Error
        cause "{file} is empty"
        fix "write the secret there"
        explanation "An empty file or variable is no secret.";
    secret_has_blanks(remedy) "secret-has-blanks" Warning
        cause "begins or ends with a blank or a line break, which is sent as a part of it"
        fix "if it does not belong there, {remedy}"
        explanation "One line break at the end is not part of the value, further ones are. Identity services report such a secret as \
            wrong. Editors and echo add line breaks, and copying adds blanks.";
    secret_in_quotes(remedy) "secret-in-quotes" Warning
        cause "begins or ends with a quote, which is sent as a part of it"
        fix "if it does not belong there, {remedy}"
        explanation "A file holds the value alone, without quotes. In TOML and in a shell, quotes stand around a value.";
    secret_has_lines() "secret-has-lines" Warning
        cause "has several lines, which are sent as a part of it"
        fix "write it again as one line, alone"
        explanation "A file with a secret holds nothing else: no name, no comment and no second secret.";
    secret_has_invisible_characters(characters, remedy) "secret-has-invisible-characters" Warning
        cause "has characters that cannot be seen ({characters}), which are sent as a part of it"
        fix "if they do not belong there, {remedy}"
        explanation "Copying from a web page, a mail or a word processor adds soft hyphens, joiners, marks of direction and blanks that do \
            not break; a terminal adds control characters.";
    placeholder(name, source) "placeholder-in-credentials" Error
        cause "{name} in {source} is a placeholder from the documentation, and is not sent"
        fix "write the value that was issued to you"
        explanation "Values like <secret>, changeme and those in bondgate's own documentation are sent to no other machine.";
    variable_unset(name) "variable-unset" Error
        cause "the environment variable {name} is not set"
        fix "set it, or keep the secret in a file"
        explanation "The key names an environment variable as the source, and bondgate's own environment does not have it.";
    credential_missing(file) "credentials-directory-missing" Error
        cause "cannot read {file}: $CREDENTIALS_DIRECTORY is not set"
        fix "add LoadCredential= to the systemd unit"
        explanation "systemd sets $CREDENTIALS_DIRECTORY for units with LoadCredential= or SetCredential=.";
    credential_not_checked(command) "credential-not-checked" Warning
        cause "is not checked: it is a credential, which systemd gives to the service alone"
        fix "to check it, run: {command}"
        explanation "In a shell, $CREDENTIALS_DIRECTORY is not set. A check as root reads the files that the unit's LoadCredential= names.";
    credential_outdated(name) "credential-outdated" Warning
        cause "the running service still has the {name} of its last start, and the file was changed since"
        fix "run: systemctl restart bondgate"
        explanation "systemd copies the credentials of a service when it starts it. The check reads the files that the next start will \
            use.";
    keys_line_wrong(line) "keys-line-wrong" Error
        cause "line {line} of the caller keys is not \"name:key\""
        fix "write a name, a colon and the key"
        explanation "The file of keys has a line for each caller. Empty lines, and those that begin with #, are skipped.";
    keys_shared(line) "keys-shared" Error
        cause "line {line} of the caller keys has the key of another caller"
        fix "give each caller its own"
        explanation "A request is attributed to the caller whose key it carries, in logs and limits.";
    key_is_placeholder(line) "key-is-placeholder" Error
        cause "line {line} of the caller keys has a placeholder from the documentation as its key"
        fix "write a key that only this caller knows, as `openssl rand -hex 32` prints one"
        explanation "Everyone knows values like changeme. A listener with such a key is open to all who reach it.";
    key_in_quotes(name) "key-in-quotes" Warning
        cause "the key of the caller {name} begins or ends with a quote, which is a part of it"
        fix "remove the quotes from its line if they do not belong there"
        explanation "A line of the file is name:key, without quotes.";
    keys_empty() "keys-empty" Error
        cause "the caller keys hold no line \"name:key\", and no caller would be allowed"
        fix "add one"
        explanation "A listener with keys serves only callers that send one of them.";
    pem_block_damaged(file, line) "pem-block-damaged" Error
        cause "the block at line {line} of {file} is damaged"
        fix "copy it again, from its BEGIN line to its END line"
        explanation "The END line is missing or has another label, or what is between them is not base64 or no certificate.";
    pem_block_not_loaded(file, line, label) "pem-block-not-loaded" Warning
        cause "the block {label} at line {line} of {file} is not loaded"
        fix "remove it from this file; if it is needed, give it a line of its own, or name its file where it belongs"
        explanation "Certificates are loaded from blocks with the label CERTIFICATE, and the first private key from a key file.";
    trusted_certificate(file, line) "pem-trusted-certificate" Warning
        cause "the block TRUSTED CERTIFICATE at line {line} of {file} is not loaded"
        fix "run: openssl x509 -in {file} -out {file}.pem, and set the key to {file}.pem"
        explanation "It is OpenSSL's own form of a certificate. The command converts the first block of a file; split a file with \
            several, or copy the authority's certificate as CERTIFICATE.";
    only_trusted_certificates(file) "file-in-trusted-form" Error
        cause "{file} holds a TRUSTED CERTIFICATE, and no CERTIFICATE"
        fix "run: openssl x509 -in {file} -out {file}.pem, and set the key to {file}.pem"
        explanation "It is OpenSSL's own form of a certificate. The command converts the first block of a file.";
    certificate_in_der(file) "file-in-der" Error
        cause "{file} is in DER, not PEM"
        fix "run: openssl x509 -inform DER -in {file} -out {file}.pem, and set the key to {file}.pem"
        explanation "DER is the binary form of a certificate (.cer, .der, .crt), and PEM its text.";
    key_in_der(file) "key-file-in-der" Error
        cause "the private key {file} is in DER, not PEM"
        fix "run: openssl pkey -inform DER -in {file} -out {file}.pem, and set the key to {file}.pem"
        explanation "DER is the binary form of a key, and PEM its text.";
    in_pkcs7(file, form) "file-in-pkcs7" Error
        cause "{file} is PKCS#7, not a PEM certificate"
        fix "run: openssl pkcs7 -print_certs{form} -in {file} -out {file}.pem, and set the key to {file}.pem"
        explanation "PKCS#7 (.p7b, .p7c) holds a chain of certificates. Windows exports chains in this form.";
    in_pkcs12(file, form) "file-in-pkcs12" Error
        cause "{file} is PKCS#12, not PEM"
        fix "run: openssl pkcs12 {form} -in {file} -out {file}.pem, and set the key to {file}.pem"
        explanation "PKCS#12 (.pfx, .p12) holds a certificate and its key behind a password, which the command asks for.";
    key_encrypted(file) "key-encrypted" Error
        cause "the private key in {file} is encrypted"
        fix "run: openssl pkey -in {file} -out {file}.pem, and set the key to {file}.pem"
        explanation "bondgate starts without a person who could type the password. The command asks for it and writes a key without \
            one, which only bondgate's user may read.";
    no_private_key(file) "no-private-key-in-file" Error
        cause "{file} holds no private key"
        fix "write it as PEM, \"-----BEGIN PRIVATE KEY-----\""
        explanation "The key is read from the first PEM block with the label PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY.";
    no_certificate(file, held, remedy) "no-certificate-in-file" Error
        cause "{file} holds no certificate, but {held}"
        fix "{remedy}"
        explanation "Certificates are read from PEM blocks with the label CERTIFICATE, \"-----BEGIN CERTIFICATE-----\".";
    certificate_unusable(file, reason) "certificate-file-unusable" Error
        cause "the certificate in {file} cannot be used ({reason})"
        fix "issue it again; `openssl x509 -in {file} -noout -text` shows it"
        explanation "The file is PEM, and its content is no certificate that TLS can use.";
    certificate_file_expired(file, subject, not_after, now) "certificate-file-expired" Error
        cause "the certificate of {subject} in {file} expired on {not_after}; this machine's clock says {now}"
        fix "write its successor there, which a running bondgate uses at once; if the clock is wrong, run: {SET_CLOCK}"
        explanation "Callers refuse an expired certificate. bondgate starts nevertheless, and the log has this as a warning: other \
            listeners may be fine. `openssl x509 -in FILE -noout -dates` shows the dates.";
    certificate_file_not_yet_valid(file, subject, not_before, now) "certificate-file-not-yet-valid" Error
        cause "the certificate of {subject} in {file} is valid from {not_before}; this machine's clock says {now}"
        fix "set the clock ({SET_CLOCK}); if it is right, issue the certificate again"
        explanation "As a rule the clock of this machine or of the authority that issued the certificate is wrong.";
    authority_expired(file, subject, not_after) "authority-file-expired" Warning
        cause "the authority {subject} in {file} expired on {not_after}"
        fix "write its successor there, from the operator of the authority"
        explanation "Certificates are issued by its successor as a rule, which is trusted only if the file holds it.";
    key_unusable(file) "key-file-unusable" Error
        cause "the private key in {file} is damaged, or of a kind that TLS does not use"
        fix "copy it again if `openssl pkey -in {file} -noout -check` fails; else issue certificate and key again, with a key of EC \
             (P-256, P-384 or P-521), Ed25519, or RSA of 2048 bits or more"
        explanation "DSA, Ed448, other curves and RSA keys below 2048 bits are not used.";
    certificate_version_1(file) "certificate-file-version-1" Error
        cause "the certificate in {file} is X.509 version 1, which is not accepted"
        fix "issue it again with a version 3 extension: openssl x509 -req … -extfile FILE, with \"basicConstraints = CA:FALSE\" in FILE"
        explanation "`openssl x509 -req` without extensions makes version 1, which has no names to check.";
    key_mismatch(file, certificate) "key-mismatch" Error
        cause "the key in {file} does not belong to the certificate in {certificate}"
        fix "name the key that the certificate was issued for, and put the server's own certificate first in its file; for a pair, \
             `openssl x509 -in {certificate} -noout -pubkey` and `openssl pkey -in {file} -pubout` print the same"
        explanation "A certificate holds a public key; the private key must be its counterpart.";
}
