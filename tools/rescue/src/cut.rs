//! Cutting secrets out of what leaves the machine: a report is mailed, pasted and kept.
//!
//! What cannot be told to be harmless by its key is judged by the key's name; what is cut is said to be cut, so nobody takes the
//! mark for the value.

/// What stands in the place of a secret.
pub const MARK: &str = "(cut)";

/// Parts of a key's name that make its value a secret.
const SECRET: [&str; 12] = [
    "password",
    "passphrase",
    "passwd",
    "secret",
    "token",
    "private",
    "credential",
    "netroot",
    "psk",
    "wpa",
    "pin",
    "hash",
];

/// Keys with such a part in their name that hold no secret.
const HARMLESS: [&str; 2] = ["http_cacert_hash", "pinctrl"];

/// Whether a key's value is not for others.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words: Vec<&str> = key.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    // `pin` is part of too many words to be looked for inside them.
    let named = SECRET.iter().any(|part| match part.len() {
        ..4 => words.contains(part),
        _ => key.contains(part),
    });
    // `rd.luks.key=` names a file; `lifeboot.ssh-key=` is public, and `TFTP_KEY` and the like are not known to be.
    let is_key = words.len() > 1
        && words.last() == Some(&"key")
        && !["ssh-key", "rd.luks.key", "host_key", "public_key"]
            .iter()
            .any(|known| key.ends_with(known));
    (named || is_key) && !HARMLESS.contains(&key.as_str())
}

/// `KEY=VALUE` lines: the bootloader's configuration, config.txt, a TOML file.
pub fn config(text: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some((key, _)) if is_secret(key.trim()) => format!("{key}={MARK}"),
        _ => urls(line),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A kernel command line.
pub fn cmdline(text: &str) -> String {
    let mut out = Vec::new();
    let mut quoted = false;
    let mut word = String::new();
    for c in text.chars() {
        quoted ^= c == '"';
        if c.is_whitespace() && !quoted {
            out.push(std::mem::take(&mut word));
        } else {
            word.push(c);
        }
    }
    out.push(word);
    let one = |word: &String| match word.split_once('=') {
        Some((key, _)) if is_secret(key) => format!("{key}={MARK}"),
        _ => urls(word),
    };
    let words: Vec<String> = out.iter().filter(|word| !word.is_empty()).map(one).collect();
    words.join(" ")
}

/// A line of the kernel's log: its own command line, and `KEY=VALUE` wherever else it stands.
pub fn log_line(text: &str) -> String {
    if let Some((before, line)) = text.split_once("ommand line: ") {
        return format!("{before}ommand line: {}", cmdline(line));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, value)) = rest.split_once('=') {
        out.push_str(before);
        out.push('=');
        rest = value;
        let key_at = before.rfind(|c: char| c.is_whitespace() || "\"'([{,;".contains(c));
        let (lead, key) = before.split_at(key_at.map_or(0, |at| at + 1));
        if is_secret(key) {
            out.push_str(MARK);
            // Words the kernel does not know, and init's environment, stand without the quotes of their values.
            let unquoted = text.contains("ommand line parameters") || lead.ends_with("    ");
            rest = after_value(value, unquoted);
        }
    }
    out.push_str(rest);
    urls(&out)
}

/// What follows the value of a `KEY=VALUE` in a line of the kernel's log. Where an unquoted one has blanks, nobody sees its end.
fn after_value(value: &str, unquoted: bool) -> &str {
    let end = match value.chars().next() {
        _ if unquoted => value.find("\", will be passed"),
        Some(quote @ ('"' | '\'')) => value.match_indices(quote).nth(1).map(|(at, _)| at + 1),
        _ => value.find(char::is_whitespace),
    };
    end.and_then(|end| value.get(end..)).unwrap_or_default()
}

/// What ends an URL in a text. RFC 3986 lets passwords and queries have quotes, commas, semicolons and colons.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || "\"<>".contains(c)
}

/// Takes user and password, and what follows a question mark, out of every URL in a text.
pub fn urls(text: &str) -> String {
    let text = queries(text);
    let mut parts = text.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| ends_url(c) || "/?#".contains(c));
        let (authority, path) = part.split_at(end.unwrap_or(part.len()));
        out.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => out.push_str(&format!("{MARK}@{host}")),
            None => out.push_str(authority),
        }
        out.push_str(path);
    }
    out
}

/// Takes what follows a question mark out of every URL in a text, but not the sentence's own punctuation at its end.
fn queries(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at);
        let (url, tail) = url.split_at(url.find(ends_url).unwrap_or(url.len()));
        out.push_str(before);
        match url.split_once('?') {
            Some((path, query)) => {
                let kept = query.trim_end_matches(|c: char| "'|,;:.)".contains(c)).len();
                let punctuation = query.get(kept..).unwrap_or_default();
                out.push_str(&format!("{path}?{MARK}{punctuation}"));
            }
            None => out.push_str(url),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// A sentence about a boot parameter quotes what was given.
pub fn sentence(text: &str) -> String {
    let named = text
        .strip_prefix("boot parameter ")
        .and_then(|rest| rest.split_once(':'));
    match named {
        Some((key, _)) if is_secret(key) => format!("boot parameter {key}: {MARK}"),
        _ => urls(text),
    }
}

/// A JSON value: strings of secret keys are cut, URLs everywhere.
pub fn json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = sentence(text),
        Value::Array(values) => values.iter_mut().for_each(json),
        Value::Object(fields) => {
            // A note about a parameter: {"key": …, "what": …}.
            let about_secret = fields.get("key").and_then(Value::as_str).is_some_and(is_secret);
            if let Some(what) = fields.get_mut("what").filter(|_| about_secret) {
                *what = MARK.into();
            }
            for (key, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if is_secret(key) && !text.is_empty() => *text = MARK.to_owned(),
                    Value::Array(values) if is_secret(key) && !values.is_empty() => *value = MARK.into(),
                    value => json(value),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_command_line_are_cut_and_the_rest_stays() {
        let line = "console=ttyS0 root=http://me:geheim@h/os?token=abc lifeboot.console-password=\"$argon2id$v=19 x\" \
                    lifeboot.verify=sha256:00 rd.luks.key=/etc/key lifeboot.ssh-key=\"ssh-ed25519 AAAA me\" \
                    wifi.psk=12345678 lifeboot.api-token=t quiet";
        assert_eq!(
            cmdline(line),
            "console=ttyS0 root=http://(cut)@h/os?(cut) lifeboot.console-password=(cut) lifeboot.verify=sha256:00 \
             rd.luks.key=/etc/key lifeboot.ssh-key=\"ssh-ed25519 AAAA me\" wifi.psk=(cut) lifeboot.api-token=(cut) quiet"
        );
    }

    #[test]
    fn secrets_of_a_configuration_are_cut() {
        let text =
            "[all]\nBOOT_ORDER=0xf41\nHTTP_CACERT_HASH=abcd\nWPA_PSK=geheim\nSOME_KEY = x\nADMIN_PASSWORD=y";
        assert_eq!(
            config(text),
            "[all]\nBOOT_ORDER=0xf41\nHTTP_CACERT_HASH=abcd\nWPA_PSK=(cut)\nSOME_KEY =(cut)\nADMIN_PASSWORD=(cut)"
        );
    }

    #[test]
    fn urls_lose_what_logs_in_wherever_they_stand() {
        for (text, cut) in [
            ("get http://a:b@h:80/x failed", "get http://(cut)@h:80/x failed"),
            (
                "'https://h/x?sig=1', then ftp://u@h",
                "'https://h/x?(cut)', then ftp://(cut)@h",
            ),
            ("http://h/a@b", "http://h/a@b"),
            ("http://p@ss@h/", "http://(cut)@h/"),
            ("get http://bob:s3,c;r'e|t@h:80/x", "get http://(cut)@h:80/x"),
            ("http://h/x?a=1,b;c'd: 404", "http://h/x?(cut): 404"),
            ("http://h/a,b?token=t", "http://h/a,b?(cut)"),
            ("http://a:b@h/,ftp://c:d@h", "http://(cut)@h/,ftp://(cut)@h"),
            ("\"http://a:b@h\": c@d", "\"http://(cut)@h\": c@d"),
            ("no url: me@host", "no url: me@host"),
            ("://", "://"),
        ] {
            assert_eq!(urls(text), cut);
        }
    }

    #[test]
    fn what_the_kernel_logs_of_a_secret_parameter_is_cut_in_every_line() {
        for (line, cut) in [
            (
                "Unknown kernel command line parameters \"dns=10.0.2.99 wifi_password=a b c=d\", will be passed to user space.",
                "Unknown kernel command line parameters \"dns=10.0.2.99 wifi_password=(cut)\", will be passed to user space.",
            ),
            ("    wifi_password=a b", "    wifi_password=(cut)"),
            ("    wifi_country=a b", "    wifi_country=a b"),
            (
                "<6>[    0.1]     wifi_password=a b",
                "<6>[    0.1]     wifi_password=(cut)",
            ),
            ("ap: psk=12345678 channel=6", "ap: psk=(cut) channel=6"),
            ("ap: psk=\"1234 5678\" channel=6", "ap: psk=(cut) channel=6"),
            (
                "ap: (psk='1234 5678') root=http://a:b@h/",
                "ap: (psk=(cut)) root=http://(cut)@h/",
            ),
            ("psk=\"1234 5678", "psk=(cut)"),
            ("eth0: link up, flow=rx/tx", "eth0: link up, flow=rx/tx"),
            (
                "Kernel command line: quiet psk=\"a b\"",
                "Kernel command line: quiet psk=(cut)",
            ),
        ] {
            assert_eq!(log_line(line), cut);
        }
    }

    #[test]
    fn json_is_cut_all_the_way_down() {
        let mut value = serde_json::json!({"a": [{"password": "x", "pin": "", "url": "http://u:p@h/"}], "tokens": ["t"], "n": 1});
        json(&mut value);
        let mut note = serde_json::json!({"key": "lifeboot.console-password", "what": "'hunter2' is no hash",
            "text": "boot parameter lifeboot.console-password: 'hunter2' is no hash"});
        json(&mut note);
        assert!(!note.to_string().contains("hunter2"), "{note}");
        let mut public = serde_json::json!({"host_key": "derived", "key": "SHA256:x", "private_key": "x"});
        json(&mut public);
        assert_eq!(
            public,
            serde_json::json!({"host_key": "derived", "key": "SHA256:x", "private_key": MARK})
        );
        let expected = serde_json::json!({"a": [{"password": MARK, "pin": "", "url": "http://(cut)@h/"}], "tokens": MARK, "n": 1});
        assert_eq!(value, expected);
    }
}
