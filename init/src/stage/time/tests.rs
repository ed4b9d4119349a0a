use super::*;
use crate::report::Memory;
use lifeboot_contract::event::Event;
use std::net::UdpSocket;

/// 2026-11-20.
const NOW: u64 = 1_795_132_800;

/// Longest that anything may take: who hears nothing in time asks again.
const PATIENCE: Duration = Duration::from_secs(50);

/// A server that answers every question so; its address, and how often it was asked.
fn server(change: fn(&mut [u8; 48])) -> (String, Arc<AtomicU64>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let asked = Arc::<AtomicU64>::default();
    let count = asked.clone();
    std::thread::spawn(move || {
        loop {
            let mut question = [0; 48];
            let (_, from) = socket.recv_from(&mut question).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let mut answer = good(question[40..48].try_into().unwrap());
            change(&mut answer);
            // Who asked may have given up.
            drop(socket.send_to(&answer, from));
        }
    });
    (address, asked)
}

fn good(nonce: [u8; 8]) -> [u8; 48] {
    let mut answer = [0; 48];
    answer[0] = 0o44;
    answer[1] = 2;
    answer[24..32].copy_from_slice(&nonce);
    let seconds = (NOW + 2_208_988_800) as u32;
    answer[32..36].copy_from_slice(&seconds.to_be_bytes());
    answer[40..44].copy_from_slice(&seconds.to_be_bytes());
    answer
}

/// A clock that stands at 1970 and takes what it is given.
const STANDING: RealClock = RealClock {
    read: || Duration::ZERO,
    set: |_| Ok(()),
};

fn run_with(servers: Vec<String>) -> (SetClock, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let clock = start(servers, &Reporter::new(memory.clone()), STANDING);
    (clock, memory)
}

fn named(memory: &Memory, name: &str) -> Vec<Event> {
    memory
        .events()
        .into_iter()
        .filter(|event| event.name == name)
        .collect()
}

#[test]
fn a_good_answer_sets_the_clock() {
    let (address, _) = server(|_| {});
    let (clock, memory) = run_with(vec![address.clone()]);
    clock.settle(PATIENCE);
    let set = named(&memory, "time.set");
    assert_eq!(set.len(), 1);
    assert_eq!(
        (set[0].str("source"), set[0].str("server")),
        ("sntp", address.as_str())
    );
    assert!((NOW..NOW + 2).contains(&set[0].u64("unix").unwrap()));
}

#[test]
fn a_server_that_lies_is_not_believed_and_the_next_is_asked() {
    let lies: [fn(&mut [u8; 48]); 3] = [|p| p[0] |= 0o300, |p| p[1] = 16, |p| p[40..48].fill(0)];
    for lie in lies {
        let (bad, asked) = server(lie);
        let (good, _) = server(|_| {});
        let (clock, memory) = run_with(vec![bad, good.clone()]);
        clock.settle(PATIENCE);
        assert!(asked.load(Ordering::Relaxed) > 0);
        assert_eq!(named(&memory, "time.set")[0].str("server"), good);
    }
}

#[test]
fn a_server_that_declines_is_not_asked_again() {
    let (address, _) = server(|p| {
        p[1] = 0;
        p[12..16].copy_from_slice(b"DENY");
    });
    let (clock, memory) = run_with(vec![address]);
    // Less than as long as others are asked.
    clock.settle(PATIENCE);
    assert!(
        named(&memory, "time.failed")[0]
            .str("what")
            .ends_with("the server declines: DENY")
    );
}

#[test]
fn answers_that_are_not_to_the_question_are_passed_over() {
    let nonce = [1, 2, 3, 4, 5, 6, 7, 8];
    assert!(sntp::read(&good(nonce), nonce).is_ok());
    assert!(sntp::read(&good([0; 8]), nonce).is_err());
    for length in 0..48 {
        assert!(sntp::read(&good(nonce)[..length], nonce).is_err());
    }
    for (at, value) in [(0, 0o43), (0, 0o45), (24, 9)] {
        let mut answer = good(nonce);
        answer[at] = value;
        assert!(sntp::read(&answer, nonce).is_err(), "{at}");
    }
}

#[test]
fn without_a_server_nobody_waits_and_a_date_header_serves_once() {
    let (clock, memory) = run_with(Vec::new());
    let start = Instant::now();
    clock.settle(PATIENCE);
    assert!(start.elapsed() < PATIENCE);
    clock.http_date("nonsense");
    assert!(named(&memory, "time.set").is_empty());
    clock.http_date("Fri, 20 Nov 2026 19:03:37 GMT");
    clock.http_date("Fri, 20 Nov 2026 19:03:47 GMT");
    let set = named(&memory, "time.set");
    assert_eq!(set.len(), 1);
    assert_eq!(
        (set[0].str("source"), set[0].u64("unix")),
        ("http-date", Some(1_795_201_417))
    );
}

#[test]
fn a_header_does_not_replace_what_sntp_said() {
    let (address, _) = server(|_| {});
    let (clock, memory) = run_with(vec![address]);
    clock.settle(PATIENCE);
    clock.http_date("Fri, 20 Nov 2026 19:03:37 GMT");
    assert_eq!(named(&memory, "time.set").len(), 1);
}

#[test]
fn servers_may_name_a_port() {
    let one = |text: &str| addresses(text).unwrap()[0].to_string();
    assert_eq!(one("10.0.0.1"), "10.0.0.1:123");
    assert_eq!(one("10.0.0.1:1123"), "10.0.0.1:1123");
    assert_eq!(one("2001:db8::1"), "[2001:db8::1]:123");
    assert_eq!(one("[2001:db8::1]"), "[2001:db8::1]:123");
    assert_eq!(one("[2001:db8::1]:1123"), "[2001:db8::1]:1123");
}
