//! `rescue reboot [--to …]`: restarting, and from where the machine starts next time, that one time.
//!
//! What the firmware is to do is decided and checked before anything is written, written before PID 1 is asked to restart, and taken
//! back when PID 1 does not. **The Raspberry Pi's way was never run on hardware.**

mod efi;

use crate::boot::last_order;
use crate::{eeprom, machine, output};
use anyhow::{Context as _, bail, ensure};
use argh::FromArgs;
use efi::Entry;
use lifeboot_contract::control::Request;
use lifeboot_contract::firmware::boot_order::{Mode, Order, of_digit};
use lifeboot_contract::firmware::eeprom::value;
use lifeboot_contract::firmware::mailbox::SET_REBOOT_ORDER;
use lifeboot_init::board::Board;
use lifeboot_init::firmware::{DEVICE, Mailbox, ask};
use std::process::ExitCode;
use std::str::FromStr;

/// What a bootloader does that is not configured.
const DEFAULT_ORDER: u32 = 0xf41;
/// The kernel takes so many bytes of reboot(2)'s argument.
const LONGEST_ARGUMENT: usize = 255;

/// restart the machine, after unmounting what can be
#[derive(Debug, FromArgs)]
#[cfg_attr(test, derive(argh::ArgsInfo))]
#[argh(
    subcommand,
    name = "reboot",
    note = "With --to the firmware starts from there next time, and only then: a Raspberry Pi 5 by its one-shot boot order (with the configured one behind it, should nothing be found there), UEFI firmware by BootNext. Where the firmware cannot, that is said and the machine is not restarted. 'rescue' is what this system was started from.",
    example = "Once more into this rescue system, whatever the boot order says:\n$ {command_name} --to rescue\nWhat would be done?\n$ {command_name} --to usb --dry-run\nA trial boot of a Raspberry Pi (tryboot.txt, or the other partition):\n$ {command_name} --argument '0 tryboot'"
)]
pub struct Reboot {
    /// start next time from: network, sd, usb, nvme or rescue
    #[argh(option, arg_name = "target")]
    to: Option<Target>,
    /// a word for the firmware that goes with the restart (reboot(2), RESTART2)
    #[argh(option, arg_name = "word")]
    argument: Option<String>,
    /// say what would be done, and do nothing
    #[argh(switch)]
    dry_run: bool,
}

/// Where a machine may be started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A network.
    Network,
    /// An SD card or eMMC.
    Sd,
    /// A USB disk.
    Usb,
    /// An NVMe disk.
    Nvme,
    /// Whatever this system came from.
    Rescue,
}

impl Target {
    const ALL: [(Target, &str); 5] = [
        (Target::Network, "network"),
        (Target::Sd, "sd"),
        (Target::Usb, "usb"),
        (Target::Nvme, "nvme"),
        (Target::Rescue, "rescue"),
    ];

    /// What can be typed.
    pub fn names() -> Vec<&'static str> {
        Target::ALL.iter().map(|(_, name)| *name).collect()
    }

    fn name(self) -> &'static str {
        Target::ALL
            .iter()
            .find(|(target, _)| *target == self)
            .map_or("", |(_, name)| name)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Target::ALL.iter().find(|(_, name)| *name == text);
        found
            .map(|(target, _)| *target)
            .ok_or_else(|| format!("'{text}' is none of {}", Target::names().join(", ")))
    }
}

/// How the firmware is told.
enum Way {
    Pi(Order),
    Efi(Entry),
}

/// Restarts.
///
/// # Errors
/// The firmware cannot do what is asked, or PID 1 refuses or does not answer.
pub fn run(options: &Reboot) -> anyhow::Result<ExitCode> {
    let too_long = |word: &String| word.len() > LONGEST_ARGUMENT;
    if options.argument.as_ref().is_some_and(too_long) {
        output::complain(&format!(
            "rescue: --argument has at most {LONGEST_ARGUMENT} bytes"
        ));
        return Ok(ExitCode::from(2));
    }
    let way = options
        .to
        .map(|target| way(target).with_context(|| format!("--to {}", target.name())))
        .transpose()?;
    if let Some(way) = &way {
        output::line(&format!(
            "The next start, and only that, is from {}.",
            way.words()
        ))?;
    }
    if options.dry_run {
        output::line("Nothing was changed, and the machine is not restarted.")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(way) = &way {
        way.set()?;
    }
    let request = Request::Reboot {
        argument: options.argument.clone(),
    };
    let done = last_order(&request, "The machine restarts now.");
    if done.is_err()
        && let Some(Err(error)) = way.as_ref().map(Way::unset)
    {
        output::complain(&format!(
            "rescue: {error:#}; the next start is still from {}",
            way.as_ref().map(Way::words).unwrap_or_default()
        ));
    }
    done
}

/// The way this machine's firmware has to the target.
fn way(target: Target) -> anyhow::Result<Way> {
    let board = machine::board();
    if efi::is_here() {
        return efi::choose(target).map(Way::Efi);
    }
    ensure!(
        board.is_raspberry_pi(),
        "this machine has neither UEFI firmware nor a Raspberry Pi's, and no other can be told where to start from"
    );
    let mut mailbox = machine::mailbox().with_context(|| {
        format!("{DEVICE}: the firmware is asked through it, and only Raspberry Pi's own kernels have it")
    })?;
    order(target, &board, &mut mailbox).map(Way::Pi)
}

impl Way {
    fn words(&self) -> String {
        match self {
            Way::Pi(order) => format!("{order}: {}", order.words()),
            Way::Efi(entry) => entry.to_string(),
        }
    }

    fn set(&self) -> anyhow::Result<()> {
        match self {
            Way::Pi(order) => set_order(&mut machine::mailbox().context(DEVICE)?, order.number()),
            Way::Efi(entry) => efi::set(entry),
        }
    }

    fn unset(&self) -> anyhow::Result<()> {
        match self {
            Way::Pi(_) => set_order(&mut machine::mailbox().context(DEVICE)?, 0),
            Way::Efi(_) => efi::unset(),
        }
    }
}

/// The order for once, if the firmware has such a thing.
fn order(target: Target, board: &Board, mailbox: &mut dyn Mailbox) -> anyhow::Result<Order> {
    eeprom::next_order(mailbox).context(
        "a boot order for one start needs a Raspberry Pi 5 with a bootloader of 2025-01-14 or later",
    )?;
    let config = board.bootloader_config().ok();
    let usual = config
        .as_deref()
        .and_then(|config| value(config, "BOOT_ORDER"))
        .and_then(Order::of_text)
        .unwrap_or_else(|| Order::of_number(DEFAULT_ORDER));
    let first = modes(target, board.boot_mode(), &usual)?;
    Ok(usual.preceded_by(&first))
}

/// The modes that mean a target, the likelier first.
fn modes(target: Target, booted_from: Option<Mode>, usual: &Order) -> anyhow::Result<Vec<Mode>> {
    let is_network = |mode: &Mode| matches!(mode.digit, 2 | 7);
    Ok(match target {
        Target::Sd => vec![of_digit(1)],
        Target::Usb => vec![of_digit(4)],
        Target::Nvme => vec![of_digit(6)],
        Target::Network => {
            let tried = usual.modes().iter().copied().filter(is_network);
            let mut modes: Vec<Mode> = booted_from.filter(is_network).into_iter().collect();
            for mode in tried {
                if !modes.contains(&mode) {
                    modes.push(mode);
                }
            }
            if modes.is_empty() {
                modes.push(of_digit(2));
            }
            modes
        }
        Target::Rescue => match booted_from {
            Some(mode) => vec![mode],
            None => bail!("the bootloader did not say what this system was started from"),
        },
    })
}

fn set_order(mailbox: &mut dyn Mailbox, number: u32) -> anyhow::Result<()> {
    ask(mailbox, SET_REBOOT_ORDER, &[number], 1).context("the boot order of the next start")?;
    let set = eeprom::next_order(mailbox)?.map_or(0, |order| order.number());
    ensure!(
        set == number,
        "the boot order of the next start: {number:#x} was set and {set:#x} is read back"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboot_contract::firmware::mailbox::GET_REBOOT_ORDER;
    use lifeboot_init::firmware::Scripted;
    use std::io;

    fn board(name: &str) -> Board {
        let root = std::env::temp_dir().join(format!("lifeboot-reboot-{name}-{}", std::process::id()));
        crate::eeprom::tests::pi5(&root);
        Board::below(&root)
    }

    /// Firmware that keeps what it is told.
    #[derive(Default)]
    struct Keeps(u32);

    impl Mailbox for Keeps {
        fn exchange(&mut self, buffer: &mut [u32]) -> io::Result<()> {
            if buffer[2] == SET_REBOOT_ORDER {
                self.0 = buffer[5];
            }
            let answers = vec![(GET_REBOOT_ORDER, vec![self.0]), (SET_REBOOT_ORDER, vec![self.0])];
            Scripted {
                answers,
                ..Scripted::default()
            }
            .exchange(buffer)
        }
    }

    #[test]
    fn the_target_comes_first_and_the_usual_order_behind_it() {
        let board = board("order");
        let order = |target| order(target, &board, &mut Keeps::default()).unwrap().to_string();
        // Booted by network (2), configured 0xf461.
        assert_eq!(order(Target::Network), "0xf4612");
        assert_eq!(order(Target::Rescue), "0xf4612");
        assert_eq!(order(Target::Usb), "0xf614");
        assert_eq!(order(Target::Sd), "0xf461");
        std::fs::remove_dir_all(board.path("/")).unwrap();
    }

    #[test]
    fn network_is_the_kind_that_booted_this_then_the_kinds_that_are_configured() {
        let modes = |from: Option<u8>, usual| {
            let modes = modes(Target::Network, from.map(of_digit), &Order::of_number(usual)).unwrap();
            modes.iter().map(|mode| mode.digit).collect::<Vec<_>>()
        };
        assert_eq!(modes(Some(7), 0xf21), [7, 2]);
        assert_eq!(modes(Some(1), 0xf71), [7]);
        assert_eq!(modes(None, 0xf41), [2]);
        let error = super::modes(Target::Rescue, None, &Order::of_number(0xf41)).unwrap_err();
        assert!(error.to_string().contains("did not say"));
    }

    #[test]
    fn a_firmware_without_an_order_for_once_is_refused_by_name() {
        let board = board("old");
        let error = order(Target::Sd, &board, &mut Scripted::default()).unwrap_err();
        std::fs::remove_dir_all(board.path("/")).unwrap();
        let text = format!("{error:#}");
        assert!(
            text.contains("Raspberry Pi 5") && text.contains("does not know tag 0x0003008b"),
            "{text}"
        );
    }

    #[test]
    fn an_order_that_does_not_read_back_is_not_taken_for_set() {
        let mut keeps = Keeps::default();
        set_order(&mut keeps, 0xf2).unwrap();
        assert_eq!(keeps.0, 0xf2);
        set_order(&mut keeps, 0).unwrap();
        let mut forgets = Scripted {
            answers: vec![(GET_REBOOT_ORDER, vec![0]), (SET_REBOOT_ORDER, vec![0xf2])],
            ..Scripted::default()
        };
        let error = set_order(&mut forgets, 0xf2).unwrap_err().to_string();
        assert!(error.contains("0xf2 was set and 0x0 is read back"), "{error}");
    }

    #[test]
    fn targets_are_read_by_name() {
        for (target, name) in Target::ALL {
            assert_eq!(name.parse::<Target>().unwrap(), target);
        }
        assert_eq!(
            "disk".parse::<Target>().unwrap_err(),
            "'disk' is none of network, sd, usb, nvme, rescue"
        );
    }
}
