//! A list of numbers that needs no heap while it is short: steps are begun for every token.

const SHORT: usize = 64;

pub(crate) struct List {
    short: [i64; SHORT],
    n: usize,
    long: Vec<i64>,
}

impl List {
    pub(crate) fn new() -> List {
        List { short: [0; SHORT], n: 0, long: Vec::new() }
    }

    pub(crate) fn push(&mut self, number: i64) {
        if self.n < SHORT {
            self.short[self.n] = number;
        } else {
            if self.n == SHORT {
                self.long.extend_from_slice(&self.short);
            }
            self.long.push(number);
        }
        self.n += 1;
    }

    pub(crate) fn as_slice(&self) -> &[i64] {
        if self.n <= SHORT {
            &self.short[..self.n]
        } else {
            &self.long
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_pushed_short_and_long() {
        for n in [0, 1, SHORT - 1, SHORT, SHORT + 1, 3 * SHORT] {
            let mut list = List::new();
            (0..n).for_each(|i| list.push(7 * i as i64));
            assert_eq!(list.as_slice(), (0..n).map(|i| 7 * i as i64).collect::<Vec<_>>());
        }
    }
}
