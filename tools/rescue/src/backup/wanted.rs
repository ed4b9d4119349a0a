//! Which bytes of a disk are wanted: all, but for those of which it is certain that nobody needs them.

/// The finest that is told apart, and how many of them at most: a disk of terabytes is told apart more coarsely.
const FINEST: u64 = 4096;
const MOST: u64 = 1 << 26;

/// A bit for each grain of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    size: u64,
    grain: u64,
    /// Of those that are not wanted; so that what nobody spoke of is.
    spared: Vec<u64>,
}

impl Wanted {
    /// All of a disk of that size.
    pub fn all(size: u64) -> Wanted {
        let grain = size.div_ceil(MOST).max(FINEST).next_power_of_two();
        let words = usize::try_from(size.div_ceil(grain).div_ceil(64)).unwrap_or(0);
        Wanted {
            size,
            grain,
            spared: vec![0; words],
        }
    }

    /// Nobody needs `from..to`. Grains that lie in it only in part stay wanted.
    pub fn spare(&mut self, from: u64, to: u64) {
        let (first, end) = (from.div_ceil(self.grain), to.min(self.size) / self.grain);
        // The last grain of a disk may be a short one.
        let end = if to >= self.size {
            self.size.div_ceil(self.grain)
        } else {
            end
        };
        let mut grain = first;
        while grain < end {
            let (word, bit) = (usize::try_from(grain / 64).unwrap_or(usize::MAX), grain % 64);
            let count = (64 - bit).min(end - grain);
            let mask = (u64::MAX >> (64 - count)) << bit;
            if let Some(word) = self.spared.get_mut(word) {
                *word |= mask;
            }
            grain += count;
        }
    }

    /// Somebody needs `from..to` after all, and with it the grains that it lies in only in part.
    pub fn keep(&mut self, from: u64, to: u64) {
        for grain in from / self.grain..to.div_ceil(self.grain) {
            let word = usize::try_from(grain / 64).unwrap_or(usize::MAX);
            if let Some(word) = self.spared.get_mut(word) {
                *word &= !(1 << (grain % 64));
            }
        }
    }

    fn is_spared(&self, grain: u64) -> bool {
        let word = usize::try_from(grain / 64)
            .ok()
            .and_then(|word| self.spared.get(word));
        word.is_some_and(|word| word >> (grain % 64) & 1 == 1)
    }

    /// Bytes that are wanted.
    pub fn count(&self) -> u64 {
        let spared: u64 = self.spared.iter().map(|word| u64::from(word.count_ones())).sum();
        let last = self.size % self.grain;
        let short = match last > 0 && self.is_spared(self.size / self.grain) {
            true => self.grain - last,
            false => 0,
        };
        self.size - (spared * self.grain - short)
    }

    /// The pieces of `from..to` that are wanted, in order.
    pub fn pieces(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut pieces: Vec<(u64, u64)> = Vec::new();
        let mut at = from;
        while at < to {
            let grain = at / self.grain;
            let end = ((grain + 1) * self.grain).min(to);
            if !self.is_spared(grain) {
                match pieces.last_mut() {
                    Some(last) if last.1 == at => last.1 = end,
                    _ => pieces.push((at, end)),
                }
            }
            at = end;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_spoke_of_is_wanted_and_what_is_spared_in_part_too() {
        let mut wanted = Wanted::all(100 * 4096 + 512);
        assert_eq!(wanted.count(), 100 * 4096 + 512);
        wanted.spare(4096 + 1, 5 * 4096 - 1);
        assert_eq!(wanted.count(), 98 * 4096 + 512);
        assert_eq!(wanted.pieces(0, 6 * 4096), [(0, 2 * 4096), (4 * 4096, 6 * 4096)]);
        wanted.spare(60 * 4096, 200 * 4096);
        assert_eq!(wanted.count(), 58 * 4096);
        assert_eq!(
            wanted.pieces(59 * 4096 + 7, 100 * 4096 + 512),
            [(59 * 4096 + 7, 60 * 4096)]
        );
        wanted.spare(0, u64::MAX);
        assert_eq!(wanted.count(), 0);
        assert_eq!(wanted.pieces(0, 100 * 4096), []);
        wanted.spare(7, 3);
    }

    #[test]
    fn what_is_kept_after_all_is_wanted_to_its_last_byte() {
        let mut wanted = Wanted::all(200 * 4096);
        wanted.spare(0, 200 * 4096);
        wanted.keep(4096 * 63 + 4095, 4096 * 64 + 1);
        wanted.keep(4096 * 9, 4096 * 9);
        wanted.keep(200 * 4096, 400 * 4096);
        assert_eq!(wanted.pieces(0, 200 * 4096), [(63 * 4096, 65 * 4096)]);
        assert_eq!(wanted.count(), 2 * 4096);
    }

    #[test]
    fn a_huge_disk_takes_no_more_than_eight_megabytes() {
        let wanted = Wanted::all(64 << 40);
        assert!(wanted.spared.len() * 8 <= 8 << 20);
        assert_eq!(wanted.count(), 64 << 40);
    }
}
