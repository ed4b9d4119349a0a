use super::*;

fn options(words: &[&str]) -> Deploy {
    Deploy::from_args(&["deploy"], words).unwrap()
}

#[test]
fn a_proof_is_wanted_unless_it_is_waived_in_so_many_words() {
    let hex = "AB".repeat(32);
    let verify = |words: &[&str]| verification(&options(&[words, &["s", "d"]].concat()));
    assert_eq!(verify(&[]), Ok(Verify::Required));
    assert_eq!(verify(&["--no-verify"]), Ok(Verify::Off));
    assert_eq!(verify(&["--signature", "x"]), Ok(Verify::Required));
    assert_eq!(verify(&["--sha256", &hex]), Ok(Verify::Sha256([0xAB; 32])));
    assert!(verify(&["--sha256", "abc"]).is_err());
    assert!(verify(&["--sha256", &hex, "--no-verify"]).is_err());
    assert!(verify(&["--signature", "x", "--no-verify"]).is_err());
}

#[test]
fn standard_input_has_no_signature_beside_it() {
    let verify = |words: &[&str]| verification(&options(words));
    assert!(verify(&[STDIN, "d"]).is_err());
    assert_eq!(verify(&["--signature", "x", STDIN, "d"]), Ok(Verify::Required));
    assert_eq!(verify(&["--no-verify", STDIN, "d"]), Ok(Verify::Off));
}
