//! The exchange against tokens that the stock tools made (`fixtures/make`), with the server's part done here.

use super::*;
use curve::testing::serve;
use serde_json::{Value, json};
use std::cell::RefCell;

const P521: &str = include_str!("fixtures/p521.json");
const P384: &str = include_str!("fixtures/p384.json");
const P256: &str = include_str!("fixtures/p256.json");
const SHA1: &str = include_str!("fixtures/sha1.json");
const SHARES: &str = include_str!("fixtures/sss.json");

/// Servers by port: 47801 is `a` and so on. Those that are away do not answer.
struct Fake {
    keys: Value,
    away: Vec<&'static str>,
    asked: RefCell<Vec<String>>,
}

impl Fake {
    fn of(fixture: &Value) -> Fake {
        Fake {
            keys: fixture["server"].clone(),
            away: vec![],
            asked: RefCell::default(),
        }
    }
}

impl Servers for Fake {
    fn ask(&self, url: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        self.asked.borrow_mut().push(url.to_owned());
        let name = match url.split('/').nth(2) {
            Some("127.0.0.1:47801") => "a",
            Some("127.0.0.1:47802") => "b",
            _ => "c",
        };
        match self.away.contains(&name) {
            true => Err("connection refused".to_owned()),
            false => Ok(serve(&self.keys[name], &body)),
        }
    }
}

/// Always the same answer.
struct Says(Vec<u8>);

impl Servers for Says {
    fn ask(&self, _: &str, _: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(self.0.clone())
    }
}

fn read(fixture: &str) -> Value {
    serde_json::from_str(fixture).unwrap()
}

fn opened(jwe: &Value, servers: &dyn Servers) -> Result<String, Trouble> {
    passphrase(jwe, servers).map(|secret| String::from_utf8(secret.bytes().to_vec()).unwrap())
}

#[test]
fn what_clevis_encrypted_for_a_server_on_any_curve_is_decrypted_with_its_help() {
    for fixture in [P521, P384, P256, SHA1] {
        let fixture = read(fixture);
        let servers = Fake::of(&fixture);
        assert_eq!(
            opened(&fixture["jwe"], &servers).unwrap(),
            fixture["plaintext"].as_str().unwrap()
        );
        let asked = servers.asked.borrow();
        assert!(
            asked[0].starts_with("http://127.0.0.1:4780") && asked[0].contains("/rec/"),
            "{asked:?}"
        );
    }
}

#[test]
fn the_server_is_never_sent_the_same_point_twice() {
    let jwe = Jwe::from_json(&read(P521)["jwe"]).unwrap();
    let Pin::Tang(tang) = Pin::of(&jwe).unwrap() else {
        panic!()
    };
    let question = || {
        curve::begin(&tang.client, &tang.server)
            .unwrap()
            .question()
            .clone()
    };
    assert_ne!(question(), question());
    assert_ne!(question(), tang.client);
}

#[test]
fn two_of_three_servers_suffice_and_one_does_not() {
    let fixture = read(SHARES);
    for away in [vec![], vec!["a"], vec!["b"], vec!["c"]] {
        let servers = Fake {
            away: away.clone(),
            ..Fake::of(&fixture)
        };
        assert_eq!(
            opened(&fixture["jwe"], &servers).unwrap(),
            "opened by two",
            "{away:?} away"
        );
    }
    let servers = Fake {
        away: vec!["a", "c"],
        ..Fake::of(&fixture)
    };
    let trouble = opened(&fixture["jwe"], &servers).unwrap_err();
    assert!(
        !trouble.is_final() && trouble.what.starts_with("1 of 2 needed shares"),
        "{trouble}"
    );
    assert!(describe(&fixture["jwe"]).starts_with("2 of 3 (tang http://127.0.0.1:47801, "));
}

#[test]
fn a_server_with_other_keys_or_a_lying_answer_opens_nothing() {
    let fixture = read(P521);
    let jwe = &fixture["jwe"];
    // The generator of P-521: a point of the curve, but nobody's answer.
    let lie = json!({"kty": "EC", "crv": "P-521",
        "x": "AMaFjga3BATpzZ4-y2YjlbRCnGSBOQU_tSH4KK9ga009uqFLXnfv51ko_h3BJ6L_qN4zSLPBhWpCm_l-fjHC5b1m",
        "y": "ARg5KWp4mjvABFyKX7QsfRvZmPVESVebRGgXr70XJz5mLJfucplfoxYmQMVQuQE_rQdhNTxwhqJywkCIvpR2n9Fm"});
    let step = |answer: Vec<u8>| opened(jwe, &Says(answer)).unwrap_err().step;
    assert!(matches!(
        step(lie.to_string().into_bytes()),
        Step::Answer | Step::Decrypt
    ));
    let other = read(P384)["server"]["b"].to_string();
    assert_eq!(step(other.into_bytes()), Step::Answer);
    // Its own public key, which is on the curve.
    assert_eq!(
        step(fixture["server"]["a"].to_string().into_bytes()),
        Step::Decrypt
    );
    let mut off = fixture["server"]["a"].clone();
    off["y"] = off["x"].clone();
    assert_eq!(step(off.to_string().into_bytes()), Step::Answer);
    let mut zero = fixture["server"]["a"].clone();
    zero["x"] = Value::from("A".repeat(88));
    zero["y"] = Value::from("A".repeat(88));
    assert_eq!(step(zero.to_string().into_bytes()), Step::Answer);
    for nonsense in ["", "{}", "[]", "null", "{\"kty\":\"EC\"}", "<html>", "\u{0}"] {
        assert_eq!(step(nonsense.into()), Step::Answer, "{nonsense}");
    }
    assert_eq!(step(vec![b' '; 100_000]), Step::Answer);
}

#[test]
fn a_token_for_a_tpm_is_named() {
    let header = data_encoding::BASE64URL_NOPAD
        .encode(br#"{"alg":"dir","enc":"A256GCM","clevis":{"pin":"tpm2","tpm2":{}}}"#);
    let mut jwe = read(P521)["jwe"].clone();
    jwe["protected"] = Value::from(header);
    let trouble = opened(&jwe, &Says(vec![])).unwrap_err();
    assert_eq!(trouble.step, Step::Unsupported);
    assert!(trouble.what.contains("tpm2"), "{trouble}");
}

/// Every member of token and header is put to nothing, to another type, or to too much; none of it may panic or be asked for.
#[test]
fn hostile_tokens_are_errors() {
    for fixture in [P521, SHARES] {
        let jwe = read(fixture)["jwe"].clone();
        let header = data_encoding::BASE64URL_NOPAD
            .decode(jwe["protected"].as_str().unwrap().as_bytes())
            .unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        for bad in [
            Value::Null,
            json!(-1),
            json!([]),
            json!({}),
            json!(""),
            json!("é"),
            json!("\u{1b}[2J"),
            json!("A".repeat(300_000)),
        ] {
            for name in ["protected", "iv", "ciphertext", "tag"] {
                let mut jwe = jwe.clone();
                jwe[name] = bad.clone();
                assert!(passphrase(&jwe, &Says(b"{}".to_vec())).is_err(), "{name} {bad}");
            }
            for path in paths(&header, "") {
                let mut header = header.clone();
                *header.pointer_mut(&path).unwrap() = bad.clone();
                let mut jwe = jwe.clone();
                jwe["protected"] =
                    Value::from(data_encoding::BASE64URL_NOPAD.encode(header.to_string().as_bytes()));
                assert!(passphrase(&jwe, &Says(b"{}".to_vec())).is_err(), "{path} {bad}");
                let shown = describe(&jwe);
                assert!(
                    !shown.is_empty() && !shown.contains(char::is_control),
                    "{shown:?}"
                );
            }
        }
    }
}

#[test]
fn a_header_that_was_changed_does_not_decrypt() {
    let fixture = read(P521);
    let mut jwe = fixture["jwe"].clone();
    let header = data_encoding::BASE64URL_NOPAD
        .decode(jwe["protected"].as_str().unwrap().as_bytes())
        .unwrap();
    // The same JSON with one more blank: everything fits but the authentication.
    let mut header = header;
    header.push(b' ');
    jwe["protected"] = Value::from(data_encoding::BASE64URL_NOPAD.encode(&header));
    assert_eq!(opened(&jwe, &Fake::of(&fixture)).unwrap_err().step, Step::Decrypt);
}

/// Hostile addresses are not asked: this would only be seen by a server that counts.
#[test]
fn only_http_addresses_are_asked() {
    let fixture = read(P521);
    let header = data_encoding::BASE64URL_NOPAD
        .decode(fixture["jwe"]["protected"].as_str().unwrap().as_bytes())
        .unwrap();
    for url in [
        "file:///etc/shadow",
        "ftp://a",
        "http://a\r\nX: y",
        "http://a b",
        "",
        "//a",
    ] {
        let mut header: Value = serde_json::from_slice(&header).unwrap();
        header["clevis"]["tang"]["url"] = Value::from(url);
        let mut jwe = fixture["jwe"].clone();
        jwe["protected"] = Value::from(data_encoding::BASE64URL_NOPAD.encode(header.to_string().as_bytes()));
        let servers = Fake::of(&fixture);
        assert_eq!(opened(&jwe, &servers).unwrap_err().step, Step::Token, "{url}");
        assert!(servers.asked.borrow().is_empty(), "{url}");
    }
}

fn paths(value: &Value, at: &str) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => vec![],
    };
    let mut found = Vec::new();
    for (key, value) in children {
        let path = format!("{at}/{key}");
        found.extend(paths(value, &path));
        found.push(path);
    }
    found
}
