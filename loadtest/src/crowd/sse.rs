use memchr::memmem;

/// Server-sent events out of a stream's bytes; only what is half there is kept.
#[derive(Default)]
pub struct Lines {
    half: Vec<u8>,
}

impl Lines {
    /// Calls `each` with the data of every whole event. The server sends one `data` line for each.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        self.half.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(len) = memmem::find(&self.half[used..], b"\n\n") {
            let event = &self.half[used..used + len];
            if let Some(data) = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: ")) {
                each(data);
            }
            used += len + 2;
        }
        if used == self.half.len() {
            self.half = Vec::new();
        } else {
            self.half.drain(..used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_the_bytes_come_in() {
        let stream = b":\n\nid: e:5\ndata: {\"prev\":4}\n\ndata: {\"tally\":1}\n\n";
        for step in [1, 2, 5, stream.len()] {
            let (mut lines, mut out) = (Lines::default(), Vec::new());
            stream.chunks(step).for_each(|part| lines.feed(part, |data| out.push(data.to_vec())));
            assert_eq!(out, [b"{\"prev\":4}".to_vec(), b"{\"tally\":1}".to_vec()], "in steps of {step}");
        }
    }
}
