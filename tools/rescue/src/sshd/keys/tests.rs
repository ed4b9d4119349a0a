use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

const ROOT: Attempt = attempt(User::Root);

const fn attempt(user: User) -> Attempt {
    Attempt {
        user,
        client: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5)),
        now: 1_800_000_000,
    }
}

fn read(lines: &[&str]) -> (Authorized, Vec<Refused>) {
    Authorized::of(&Ssh {
        authorized_keys: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Ssh::default()
    })
}

fn key() -> PublicKey {
    PublicKey::from_openssh(KEY).unwrap()
}

#[test]
fn a_key_with_a_comment_blank_lines_and_the_same_key_twice_count_once() {
    let with_comment = format!("{KEY} somebody@somewhere");
    let (authorized, refused) = read(&["# comment", "", KEY, &with_comment]);
    assert_eq!((authorized.len(), refused), (1, vec![]));
}

#[test]
fn options_are_carried_out_and_those_that_cannot_be_refuse_the_key() {
    let line = format!("command=\"echo a, b\",no-pty {KEY}");
    let grant = read(&[&line])
        .0
        .granted(&key(), &Algorithm::Ed25519, ROOT)
        .unwrap();
    assert_eq!(
        (grant.command.as_deref(), grant.terminal),
        (Some("echo a, b"), false)
    );
    for options in [
        "environment=\"A=b\"",
        "verify-required",
        "principals=\"me\"",
        "no-pty,nonsense",
    ] {
        let (authorized, refused) = read(&[&format!("{options} {KEY}")]);
        assert_eq!((authorized.len(), refused.len()), (0, 1), "{options}");
    }
}

#[test]
fn lines_that_are_not_keys_are_named_by_list_and_number() {
    let (authorized, refused) = read(&[KEY, "ssh-ed25519 AAAA", "nonsense", "ssh-ed25519", "command=\"a"]);
    assert_eq!(authorized.len(), 1);
    let lines: Vec<_> = refused.iter().map(|refused| refused.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "authorized key 2",
            "authorized key 3",
            "authorized key 4",
            "authorized key 5"
        ]
    );
}

#[test]
fn a_sha1_signature_is_refused_whatever_the_key() {
    let (authorized, _) = read(&[KEY]);
    assert!(authorized.granted(&key(), &Algorithm::Ed25519, ROOT).is_ok());
    assert!(
        authorized
            .granted(&key(), &Algorithm::Rsa { hash: None }, ROOT)
            .is_err()
    );
    assert!(authorized.may_fit(&key(), &Algorithm::Dsa, ROOT).is_err());
}

#[test]
fn a_key_of_root_is_anybody_and_a_key_of_a_role_is_that_alone() {
    let every = |authorized: &Authorized| {
        [User::Root, User::Unlock, User::Status].map(|user| {
            authorized
                .granted(&key(), &Algorithm::Ed25519, attempt(user))
                .is_ok()
        })
    };
    assert_eq!(every(&read(&[KEY]).0), [true, true, true]);
    let unlock = Ssh {
        unlock_keys: vec![KEY.to_owned()],
        ..Ssh::default()
    };
    let (authorized, _) = Authorized::of(&unlock);
    assert_eq!(every(&authorized), [false, true, false]);
    let grant = authorized
        .granted(&key(), &Algorithm::Ed25519, attempt(User::Unlock))
        .unwrap();
    assert!(grant.terminal && !grant.forwarding && !grant.agent);
    let forced = format!("command=\"true\" {KEY}");
    assert_eq!(every(&read(&[&forced]).0), [true, false, false]);
    let (nobody, refused) = Authorized::of(&Ssh {
        status_keys: vec![forced],
        ..Ssh::default()
    });
    assert_eq!((nobody.len(), refused[0].line.as_str()), (0, "status key 1"));
}

#[test]
fn of_two_lines_for_one_key_the_first_that_grants_counts() {
    let elsewhere = format!("from=\"192.0.2.0/24\" {KEY}");
    let here = format!("from=\"10.0.0.0/8\",no-pty {KEY}");
    let grant = read(&[&elsewhere, &here, KEY])
        .0
        .granted(&key(), &Algorithm::Ed25519, ROOT);
    assert!(!grant.unwrap().terminal);
    let refused = read(&[&elsewhere])
        .0
        .granted(&key(), &Algorithm::Ed25519, ROOT)
        .unwrap_err();
    assert!(refused.ends_with("it may not be used from 10.0.0.5"), "{refused}");
}

#[test]
fn an_authority_does_not_log_in_itself_but_makes_every_offer_worth_a_look() {
    let (authorized, _) = read(&[&format!("cert-authority {KEY}")]);
    assert!(authorized.granted(&key(), &Algorithm::Ed25519, ROOT).is_err());
    assert!(authorized.may_fit(&key(), &Algorithm::Ed25519, ROOT).is_ok());
    assert!(read(&[]).0.may_fit(&key(), &Algorithm::Ed25519, ROOT).is_err());
}
