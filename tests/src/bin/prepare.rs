//! Builds what the end-to-end tests boot: `prepare [BOARD…]`, all boards when none is named; each step with its time.
#![forbid(unsafe_code)]

use lifeboot_tests::artefacts::{Os, Wanted, prepare};
use lifeboot_tests::guest::Board;
use std::collections::BTreeSet;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let named: Option<BTreeSet<Board>> = words.iter().map(|word| Board::from_name(word)).collect();
    let boards = match named {
        Some(boards) if boards.is_empty() => [Board::VirtArm64, Board::PcX86_64, Board::Pi3].into(),
        Some(boards) => boards,
        None => {
            eprintln!("usage: prepare [virt-arm64|pc-x86_64|pi3]…");
            return ExitCode::from(2);
        }
    };
    // A Pi 3 is only reached by ssh here; it starts no OS.
    let with_os = boards.iter().filter(|board| **board != Board::Pi3);
    let os = with_os
        .flat_map(|board| [(Os::Debian, *board), (Os::Tiny, *board)])
        .collect();
    let wanted = Wanted { boards, os };
    match prepare(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prepare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
