//! Builds what the end-to-end tests boot: `prepare [BOARD…]`, all boards when none is named; each step with its time.
#![forbid(unsafe_code)]

use lifeboot_tests::artefacts::{Os, Wanted, prepare, raspios, web_servers};
use lifeboot_tests::guest::Board;
use lifeboot_tests::step::step;
use std::collections::BTreeSet;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let named: Option<BTreeSet<Board>> = words.iter().map(|word| Board::from_name(word)).collect();
    let boards = match named {
        Some(boards) if boards.is_empty() => {
            [Board::VirtArm64, Board::PcX86_64, Board::Pi3, Board::Pi4].into()
        }
        Some(boards) => boards,
        None => {
            eprintln!("usage: prepare [virt-arm64|pc-x86_64|pi3|pi4]…");
            return ExitCode::from(2);
        }
    };
    // A Pi 3 is only reached by ssh here; it starts no OS.
    let with_os = boards
        .iter()
        .filter(|board| !matches!(board, Board::Pi3 | Board::Pi4));
    let os = with_os
        .flat_map(|board| [(Os::Debian, *board), (Os::Tiny, *board)])
        .collect();
    let card = boards.contains(&Board::VirtArm64);
    let everything = boards.contains(&Board::PcX86_64);
    let wanted = Wanted {
        boards,
        everything,
        os,
    };
    let made = prepare(&wanted).and_then(|()| match card {
        true => step("a disk image of Raspberry Pi OS's layout", raspios::image_xz).map(drop),
        false => Ok(()),
    });
    let made = made.and_then(|()| step("web servers", web_servers::fetch));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prepare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
