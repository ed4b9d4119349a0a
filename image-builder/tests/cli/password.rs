//! `hash-password`, whose output the device reads.

use crate::support::ran_with_input;
use lifeboot_contract::plan::{Console, Plan};
use lifeboot_contract::template::Facts;

fn hashed(input: &str) -> String {
    let ran = ran_with_input(&["hash-password", "--memory", "1"], input);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out.trim().to_owned()
}

#[test]
fn what_is_printed_is_a_boot_parameter_that_knows_the_password() {
    let value = hashed("open sesame\n");
    let config = format!("lifeboot.console-password = '{value}'");
    let config = lifeboot_contract::config::Config::parse(&config).unwrap();
    let plan = Plan::make("", &config, Facts::default(), "");
    let Console::Password(hash) = plan.console else {
        panic!("{:?}", plan.notes);
    };
    assert_eq!(hash.is_of(b"open sesame"), Some(true));
    assert_eq!(hash.is_of(b"open sesame\n"), Some(false));
    assert_ne!(hashed("open sesame\n"), value, "the salt is the same");
}

#[test]
fn no_password_and_one_the_console_does_not_take_are_refused() {
    for input in [String::new(), "\n".to_owned(), "x".repeat(1025)] {
        assert_eq!(ran_with_input(&["hash-password"], &input).code, 1);
    }
    assert_eq!(ran_with_input(&["hash-password", "--memory", "0"], "x\n").code, 1);
}
