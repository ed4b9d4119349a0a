//! The machines QEMU can be, and what the rest of the harness must know of each.

/// A machine QEMU can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Board {
    /// QEMU's `virt`, 64-bit Arm.
    VirtArm64,
    /// A PC with PCI Express.
    PcX86_64,
    /// A Raspberry Pi 3 model B.
    Pi3,
    /// A Raspberry Pi 4 model B.
    Pi4,
}

impl Board {
    /// What its kernel is told, whatever else it is told.
    pub(super) fn words(self) -> Vec<String> {
        let mut words = vec![format!("console={}", self.console())];
        if self == Board::PcX86_64 {
            // On a busy machine the emulated timer may miss the moment in which the kernel looks whether it ticks at all, and
            // then panics ("IO-APIC + timer doesn't work").
            words.push("no_timer_check".to_owned());
        }
        words
    }

    /// Name of the board file it uses.
    pub fn name(self) -> &'static str {
        match self {
            Board::VirtArm64 => "virt-arm64",
            Board::PcX86_64 => "pc-x86_64",
            Board::Pi3 => "pi3",
            Board::Pi4 => "pi4",
        }
    }

    /// The board of that name.
    pub fn from_name(name: &str) -> Option<Board> {
        [Board::VirtArm64, Board::PcX86_64, Board::Pi3, Board::Pi4]
            .into_iter()
            .find(|board| board.name() == name)
    }

    /// Architecture as Debian writes it.
    pub fn debian_arch(self) -> &'static str {
        match self {
            Board::VirtArm64 | Board::Pi3 | Board::Pi4 => "arm64",
            Board::PcX86_64 => "amd64",
        }
    }

    /// Architecture as the kernel writes it.
    pub fn arch(self) -> &'static str {
        match self {
            Board::VirtArm64 | Board::Pi3 | Board::Pi4 => "aarch64",
            Board::PcX86_64 => "x86_64",
        }
    }

    /// The serial console.
    pub fn console(self) -> &'static str {
        match self {
            Board::VirtArm64 => "ttyAMA0",
            Board::PcX86_64 => "ttyS0",
            Board::Pi3 => "ttyAMA0,115200",
            // Not the mini-UART that a real one's header carries (ttyS1): QEMU's model of it interrupts without end.
            Board::Pi4 => "ttyAMA0,115200",
        }
    }

    pub(super) fn qemu(self) -> &'static str {
        match self {
            Board::VirtArm64 | Board::Pi3 | Board::Pi4 => "qemu-system-aarch64",
            Board::PcX86_64 => "qemu-system-x86_64",
        }
    }

    pub(super) fn machine(self) -> &'static [&'static str] {
        match self {
            Board::VirtArm64 => &["-M", "virt", "-cpu", "cortex-a72", "-smp", "2"],
            // One processor: with two, an emulated boot was seen to die before init, probably because the kernel patched its own
            // code while QEMU's other processor still ran the old translation ("Oops: int3" in sched_clock_cpu).
            Board::PcX86_64 => &["-M", "q35", "-cpu", "max", "-smp", "1"],
            Board::Pi3 => &["-M", "raspi3b"],
            Board::Pi4 => &["-M", "raspi4b"],
        }
    }

    /// Whether it has PCI, and with it everything virtio.
    pub(super) fn has_pci(self) -> bool {
        !matches!(self, Board::Pi3 | Board::Pi4)
    }
}
