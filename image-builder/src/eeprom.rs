//! `image-builder eeprom`: the configuration that makes a Pi 4's or Pi 5's own bootloader ask for these images, and how to put it there
//! and to get back. Prints only: what is written into an EEPROM is its owner's business.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use argh::FromArgs;

use lifeboot_contract::firmware::boot_order::Order;

use crate::board::{self, Board, Eeprom};

/// print a boot.conf for the bootloader of a Pi 4 or 5, and the commands that apply it
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "eeprom",
    example = "image-builder eeprom --board pi4 --http-host boot.example.org --boot-order http,sd,restart > boot.conf",
    example = "image-builder eeprom --board pi5 --boot-order network,nvme,restart --tftp-prefix mac > boot.conf",
    note = "boot.conf is on standard output; what it means and how to apply it are on standard error. Nothing is applied."
)]
pub struct Arguments {
    /// board: pi4 or pi5
    #[argh(option, arg_name = "name")]
    board: String,
    /// boot modes in the order they are to be tried: sd network rpiboot usb nvme http stop restart, separated by commas
    #[argh(option, arg_name = "modes")]
    boot_order: Option<String>,
    /// host that serves boot.img and boot.sig
    #[argh(option, arg_name = "name")]
    http_host: Option<String>,
    /// directory they lie in on that host, net_install when nothing is said
    #[argh(option, arg_name = "path")]
    http_path: Option<String>,
    /// its port, 80 when nothing is said
    #[argh(option, arg_name = "port")]
    http_port: Option<u16>,
    /// directory on a TFTP server: serial (default), mac, or a name of your own
    #[argh(option, arg_name = "prefix")]
    tftp_prefix: Option<String>,
    /// address of the TFTP server, instead of the one DHCP names
    #[argh(option, arg_name = "address")]
    tftp_ip: Option<std::net::Ipv4Addr>,
    /// how often network boot is tried again before the next mode; 255 is for ever
    #[argh(option, arg_name = "n")]
    retries: Option<u8>,
    /// keep the bootloader's own messages off the serial port
    #[argh(switch)]
    quiet: bool,
    /// directory of board files, instead of those built in
    #[argh(option, arg_name = "dir")]
    kernel_config: Option<PathBuf>,
}

/// Prints.
pub fn run(arguments: &Arguments) -> Result<()> {
    let board = Board::load(&arguments.board, arguments.kernel_config.as_deref())?;
    let Some(eeprom) = &board.eeprom else {
        let mut known = Vec::new();
        for name in board::names(arguments.kernel_config.as_deref())? {
            if Board::load(&name, arguments.kernel_config.as_deref())?
                .eeprom
                .is_some()
            {
                known.push(name);
            }
        }
        bail!(
            "{}: no bootloader in an EEPROM; {} have one",
            board.name,
            known.join(" and ")
        );
    };
    let order = order_of(arguments)?;
    let conf = boot_conf(arguments, &order)?;
    ensure!(
        conf.len() <= eeprom.config_limit as usize,
        "boot.conf: {} bytes, over the {} that the bootloader of {} has room for ({})",
        conf.len(),
        eeprom.config_limit,
        board.name,
        eeprom.limit_source
    );
    print!("{conf}");
    eprint!(
        "{}",
        explained(&order, &conf, eeprom, arguments.http_host.is_some())?
    );
    Ok(())
}

/// The file, line for line.
fn boot_conf(arguments: &Arguments, order: &Order) -> Result<String> {
    let mut text = format!(
        "[all]\nBOOT_UART={}\nBOOT_ORDER={order}\n",
        u8::from(!arguments.quiet)
    );
    if let Some(host) = &arguments.http_host {
        let good =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || ".-".contains(letter);
        ensure!(
            !host.is_empty() && host.chars().all(good),
            "--http-host {host}: lower-case letters, digits, dots and hyphens alone"
        );
        if host.parse::<std::net::Ipv4Addr>().is_ok() {
            eprintln!(
                "HTTP_HOST={host}: a bootloader of 2022 was reported to want a name here (raspberrypi/rpi-eeprom#433)"
            );
        }
        writeln!(text, "HTTP_HOST={host}")?;
    }
    if let Some(path) = &arguments.http_path {
        let path = path.trim_matches('/');
        let good = |letter: char| letter.is_ascii_graphic() && !"%?#=".contains(letter);
        ensure!(
            !path.is_empty() && path.chars().all(good),
            "--http-path {path}: a path of plain letters, without what URLs give a meaning"
        );
        writeln!(text, "HTTP_PATH={path}")?;
    }
    if let Some(port) = arguments.http_port.filter(|port| *port != 80) {
        ensure!(port != 0, "--http-port 0: not a port");
        writeln!(text, "HTTP_PORT={port}")?;
    }
    tftp(arguments, &mut text)?;
    if let Some(retries) = arguments.retries {
        // The bootloader takes -1 for without end.
        let retries = if retries == u8::MAX {
            "-1".to_owned()
        } else {
            retries.to_string()
        };
        writeln!(text, "NET_BOOT_MAX_RETRIES={retries}")?;
    }
    if arguments.http_host.is_some() {
        // An automatic update would bring an image without the owner's public key, and HTTP boot would end.
        text.push_str("FREEZE_VERSION=1\n");
    }
    Ok(text)
}

fn tftp(arguments: &Arguments, text: &mut String) -> Result<()> {
    match arguments.tftp_prefix.as_deref() {
        None => {}
        Some("serial") => writeln!(text, "TFTP_PREFIX=0")?,
        Some("mac") => writeln!(text, "TFTP_PREFIX=2")?,
        Some(name) => {
            let name = format!("{}/", name.trim_matches('/'));
            ensure!(
                name.len() <= 32
                    && name.len() > 1
                    && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'='),
                "--tftp-prefix {name}: 1 to 32 plain letters with the slash at the end"
            );
            writeln!(text, "TFTP_PREFIX=1\nTFTP_PREFIX_STR={name}")?;
        }
    }
    if let Some(address) = arguments.tftp_ip {
        writeln!(text, "TFTP_IP={address}")?;
    }
    Ok(())
}

/// For a person, on standard error.
fn explained(order: &Order, conf: &str, eeprom: &Eeprom, http: bool) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "{} of {} bytes of configuration.",
        conf.len(),
        eeprom.config_limit
    )?;
    writeln!(
        text,
        "BOOT_ORDER={order} is read from the right: {}.",
        order.words()
    )?;
    if http {
        text.push_str(
            "\nHTTP boot takes a signed boot.img only, also without secure boot: the public half of the key that signs it goes into\n\
             the EEPROM with the configuration. FREEZE_VERSION=1 keeps automatic updates from bringing an EEPROM without it.\n",
        );
    }
    let chip = &eeprom.chip;
    let public = if http { " -p public.pem" } else { "" };
    text.push_str("\nTo apply it, on any Linux with the package rpi-eeprom (or its repository):\n");
    if http {
        text.push_str("  openssl rsa -in key.pem -pubout -out public.pem\n");
    }
    writeln!(
        text,
        "  cp /lib/firmware/raspberrypi/bootloader-{chip}/default/pieeprom-DATE.bin pieeprom.original.bin"
    )?;
    writeln!(
        text,
        "  rpi-eeprom-config -c boot.conf{public} -o pieeprom.upd pieeprom.original.bin"
    )?;
    text.push_str("  rpi-eeprom-digest -i pieeprom.upd -o pieeprom.sig\n");
    text.push_str("then on the Pi itself:\n  sudo rpi-eeprom-update -d -f pieeprom.upd && sudo reboot\n");
    text.push_str("and look at what it took:\n  rpi-eeprom-config\n");
    text.push_str("\nTo take back what has not been rebooted into yet:\n  sudo rpi-eeprom-update -r\n");
    text.push_str(
        "To go back afterwards, with what was there before (keep it: rpi-eeprom-config > before.conf):\n",
    );
    text.push_str("  sudo rpi-eeprom-config --apply before.conf && sudo reboot\n");
    writeln!(
        text,
        "A Pi that boots nothing: write Raspberry Pi Imager's \"Bootloader\" image to a card and start from it; on a Compute Module\n\
         rpiboot -d {} of the usbboot repository. Both bring the stock configuration, without your key.",
        if chip == "2712" { "recovery5" } else { "recovery" }
    )?;
    Ok(text)
}

/// The order that was asked for, where it fits the rest of what was asked for.
fn order_of(arguments: &Arguments) -> Result<Order> {
    let http = arguments.http_host.is_some();
    let default = if http {
        "http,sd,restart"
    } else {
        "network,sd,restart"
    };
    let text = arguments.boot_order.as_deref().unwrap_or(default);
    let order: Order = text.parse().with_context(|| format!("--boot-order {text}"))?;
    let has = |mode: &str| order.has(mode);
    ensure!(
        has("http") || !http,
        "--boot-order {text}: --http-host is given, but http is not tried"
    );
    ensure!(
        http || !has("http"),
        "--boot-order {text}: http without --http-host asks Raspberry Pi's own server"
    );
    let asked = arguments.tftp_prefix.is_some() || arguments.tftp_ip.is_some();
    ensure!(
        has("network") || !asked,
        "--boot-order {text}: --tftp-prefix and --tftp-ip are for network, which is not tried"
    );
    let http_only = arguments.http_path.is_some() || arguments.http_port.is_some();
    ensure!(
        http || !http_only,
        "--http-path and --http-port are for --http-host, which is not given"
    );
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Arguments {
        Arguments::from_args(&["eeprom"], words).unwrap()
    }

    fn conf(words: &[&str]) -> Result<String> {
        let arguments = arguments(words);
        boot_conf(&arguments, &order_of(&arguments)?)
    }

    #[test]
    fn an_http_recipe_is_complete() {
        let words = [
            "--board",
            "pi4",
            "--http-host",
            "boot.example.org",
            "--http-path",
            "/pi/",
            "--http-port",
            "8080",
        ];
        let expected = "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf17\nHTTP_HOST=boot.example.org\nHTTP_PATH=pi\nHTTP_PORT=8080\n\
                        FREEZE_VERSION=1\n";
        assert_eq!(conf(&words).unwrap(), expected);
    }

    #[test]
    fn a_tftp_recipe_is_complete() {
        let words = [
            "--board",
            "pi4",
            "--tftp-prefix",
            "mac",
            "--tftp-ip",
            "10.0.0.1",
            "--retries",
            "3",
            "--quiet",
        ];
        let expected =
            "[all]\nBOOT_UART=0\nBOOT_ORDER=0xf12\nTFTP_PREFIX=2\nTFTP_IP=10.0.0.1\nNET_BOOT_MAX_RETRIES=3\n";
        assert_eq!(conf(&words).unwrap(), expected);
        let named = conf(&["--board", "pi4", "--tftp-prefix", "site-a", "--retries", "255"]).unwrap();
        assert!(
            named.ends_with("TFTP_PREFIX=1\nTFTP_PREFIX_STR=site-a/\nNET_BOOT_MAX_RETRIES=-1\n"),
            "{named}"
        );
    }

    #[test]
    fn what_the_bootloader_would_not_take_is_refused() {
        let cases: [(&[&str], &str); 8] = [
            (
                &["--http-host", "Boot.example.org"],
                "--http-host Boot.example.org: lower-case",
            ),
            (&["--http-host", "http://a"], "--http-host http://a: lower-case"),
            (&["--http-host", "a", "--http-path", "a?b"], "--http-path a?b:"),
            (
                &["--http-path", "a"],
                "--http-path and --http-port are for --http-host",
            ),
            (&["--boot-order", "http,sd"], "http without --http-host"),
            (&["--http-host", "a", "--boot-order", "sd"], "http is not tried"),
            (
                &["--boot-order", "sd", "--tftp-prefix", "mac"],
                "for network, which is not tried",
            ),
            (
                &["--tftp-prefix", "a-name-that-is-longer-than-thirty-two"],
                "1 to 32 plain letters",
            ),
        ];
        for (words, why) in cases {
            let error = conf(&[&["--board", "pi4"], words].concat())
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
