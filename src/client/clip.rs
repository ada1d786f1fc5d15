//! A short recording to broadcast in a loop: VP8 or H.264 (in Annex B's byte stream) from an IVF file, Opus from an Ogg
//! file.
//!
//! IVF is a 32-byte header, then per frame its length (u32), its time in units of the header's time base (u64) and
//! the data, all little-endian. An Ogg page is a 27-byte header, a table of segment lengths and the segments; a packet
//! is a run of segments up to one shorter than 255 bytes, so that a page may hold many packets and a packet may span
//! pages. (The webrtc project's Ogg reader gives whole pages, which RTP cannot carry; hence our own.)

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::client::{Error, codec::Codec};

const IVF_HEADER_LEN: usize = 32;
const OGG_HEADER_LEN: usize = 27;
/// Frames or packets in one clip; a longer one is refused.
const UNITS_MAX: usize = 100_000;
/// Quarter, half and full size, as browsers' examples call them.
const LAYER_NAMES: [&str; 3] = ["q", "h", "f"];

/// One video frame or audio packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// From the start of the clip.
    pub at: Duration,
    pub len: Duration,
    /// Of a video frame one for each layer, the smallest first.
    pub data: Vec<Bytes>,
    /// A video frame that needs no other; every audio packet.
    pub key: bool,
}

/// A clip in memory, ready to be looped.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Of the picture.
    pub(super) codec: Codec,
    /// Starts with a keyframe; never empty.
    pub(super) video: Vec<Unit>,
    pub(super) audio: Vec<Unit>,
    /// One loop; the video's length. Audio that runs over it is cut.
    pub(super) len: Duration,
}

impl Clip {
    /// Reads a VP8 or H.264 clip in IVF and, where there is sound, Opus in Ogg.
    pub fn parse(ivf: Bytes, ogg: Option<Bytes>) -> Result<Self, Error> {
        let (codec, video) = video_units(ivf)?;
        let len = video.last().map_or(Duration::ZERO, |last| last.at + last.len);
        let mut audio = ogg.map_or(Ok(Vec::new()), audio_units)?;
        audio.retain(|unit| unit.at + unit.len <= len);
        Ok(Self { codec, video, audio, len })
    }

    /// The same picture in several sizes, the smallest first, for an anchor who sends them all (simulcast). Their frames
    /// come at the same times and their keyframes in the same places.
    pub fn layered(ivfs: Vec<Bytes>, ogg: Option<Bytes>) -> Result<Self, Error> {
        if !(1..=LAYER_NAMES.len()).contains(&ivfs.len()) {
            return Err(Error::Clip("a clip has one to three layers"));
        }
        let mut ivfs = ivfs.into_iter();
        let mut clip = Self::parse(ivfs.next().unwrap_or_default(), ogg)?;
        for ivf in ivfs {
            let (codec, layer) = video_units(ivf)?;
            let fits = |(of, frame): (&Unit, &Unit)| (of.at, of.len, of.key) == (frame.at, frame.len, frame.key);
            if codec != clip.codec || layer.len() != clip.video.len() || !clip.video.iter().zip(&layer).all(fits) {
                return Err(Error::Clip("the layers' frames do not go together"));
            }
            clip.video.iter_mut().zip(layer).for_each(|(unit, frame)| unit.data.extend(frame.data));
        }
        Ok(clip)
    }

    /// The names of the layers, the smallest first; none of a clip that has one only.
    pub(super) fn layer_names(&self) -> &'static [&'static str] {
        match self.video.first().map_or(0, |unit| unit.data.len()) {
            0 | 1 => &[],
            layers => &LAYER_NAMES[..layers],
        }
    }

    /// The time of one loop.
    pub fn duration(&self) -> Duration {
        self.len
    }
}

fn video_units(mut ivf: Bytes) -> Result<(Codec, Vec<Unit>), Error> {
    if ivf.len() < IVF_HEADER_LEN || !ivf.starts_with(b"DKIF") {
        return Err(Error::Clip("no IVF header"));
    }
    let codec = match &ivf[8..12] {
        b"VP80" => Codec::Vp8,
        b"H264" => Codec::H264,
        _ => return Err(Error::Clip("the video is neither VP8 nor H.264")),
    };
    let mut header = ivf.split_to(IVF_HEADER_LEN).slice(16..24);
    let (rate, scale) = (header.get_u32_le(), header.get_u32_le());
    if rate == 0 || scale == 0 {
        return Err(Error::Clip("the IVF time base is zero"));
    }
    let time = |ticks: u64| {
        let nanos = u128::from(ticks) * u128::from(scale) * 1_000_000_000 / u128::from(rate);
        u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| Error::Clip("a frame's time is out of range"))
    };

    let mut frames = Vec::new();
    while ivf.len() >= 12 && frames.len() < UNITS_MAX {
        let (len, ticks) = (ivf.get_u32_le() as usize, ivf.get_u64_le());
        if len == 0 || len > ivf.len() {
            return Err(Error::Clip("an IVF frame is cut off"));
        }
        frames.push((ticks, ivf.split_to(len)));
    }
    Ok((codec, timed_frames(codec, &frames, time)?))
}

fn timed_frames(
    codec: Codec,
    frames: &[(u64, Bytes)],
    time: impl Fn(u64) -> Result<Duration, Error>,
) -> Result<Vec<Unit>, Error> {
    let (Some((first, key)), Some((last, _))) = (frames.first(), frames.last()) else {
        return Err(Error::Clip("no frames"));
    };
    if !is_key(codec, key) {
        return Err(Error::Clip("the first frame is not a keyframe"));
    }
    if frames.windows(2).any(|pair| pair[1].0 <= pair[0].0) {
        return Err(Error::Clip("the frames' times do not rise"));
    }
    // The last frame is shown as long as the others are on average.
    let steps = (frames.len() as u64 - 1).max(1);
    let end = last + ((last - first) / steps).max(1);
    let nexts = frames[1..].iter().map(|(ticks, _)| *ticks).chain([end]);
    let unit = |((ticks, data), next): (&(u64, Bytes), u64)| {
        let (at, until) = (time(ticks - first)?, time(next - first)?);
        Ok(Unit { at, len: until - at, data: vec![data.clone()], key: is_key(codec, data) })
    };
    frames.iter().zip(nexts).map(unit).collect()
}

/// The lowest bit of a VP8 frame's first byte is 0 on a keyframe (RFC 6386 section 9.1); one of H.264 has an IDR slice.
fn is_key(codec: Codec, frame: &[u8]) -> bool {
    match codec {
        Codec::H264 => frame.windows(4).any(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 0x1f == 5),
        _ => frame.first().is_some_and(|byte| byte & 1 == 0),
    }
}

fn audio_units(ogg: Bytes) -> Result<Vec<Unit>, Error> {
    let packets = ogg_packets(ogg)?;
    if !packets.first().is_some_and(|head| head.starts_with(b"OpusHead")) {
        return Err(Error::Clip("the audio is not Opus"));
    }
    let mut at = Duration::ZERO;
    let mut units = Vec::new();
    // The second packet holds the tags.
    for data in packets.into_iter().skip(2) {
        let len = opus_len(&data).ok_or(Error::Clip("an Opus packet is cut off"))?;
        units.push(Unit { at, len, data: vec![data], key: true });
        at += len;
    }
    Ok(units)
}

fn ogg_packets(mut ogg: Bytes) -> Result<Vec<Bytes>, Error> {
    let mut packets = Vec::new();
    let mut packet = BytesMut::new();
    while ogg.has_remaining() && packets.len() < UNITS_MAX {
        if ogg.len() < OGG_HEADER_LEN || !ogg.starts_with(b"OggS") {
            return Err(Error::Clip("no Ogg page where one should be"));
        }
        let segments = usize::from(ogg.split_to(OGG_HEADER_LEN)[26]);
        if ogg.len() < segments {
            return Err(Error::Clip("an Ogg page is cut off"));
        }
        for len in ogg.split_to(segments) {
            if ogg.len() < usize::from(len) {
                return Err(Error::Clip("an Ogg page is cut off"));
            }
            packet.extend_from_slice(&ogg.split_to(usize::from(len)));
            if len < 255 {
                packets.push(packet.split().freeze());
            }
        }
    }
    Ok(packets)
}

/// How long an Opus packet sounds (RFC 6716 section 3.1).
fn opus_len(packet: &[u8]) -> Option<Duration> {
    const MICROS: [u64; 4] = [10_000, 20_000, 40_000, 60_000];
    let toc = *packet.first()?;
    let size = usize::from(toc >> 3 & 3);
    let frame = match toc >> 3 {
        0..=11 => MICROS[size],
        12..=15 => MICROS[size & 1],
        _ => 2_500 << size,
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3f),
    };
    Some(Duration::from_micros(frame * count))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An IVF file of 25 frames a second; `keys` are the keyframes' places.
    pub fn ivf(frames: usize, keys: &[usize]) -> Bytes {
        let mut file = b"DKIF\0\0\x20\0VP80".to_vec();
        file.extend([0; 4]);
        file.extend(25u32.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend([0; 8]);
        for i in 0..frames {
            let data = [u8::from(!keys.contains(&i)), i as u8, 7];
            file.extend((data.len() as u32).to_le_bytes());
            file.extend((i as u64).to_le_bytes());
            file.extend(data);
        }
        file.into()
    }

    /// An Ogg file of 20 ms Opus packets, `per_page` of them in a page.
    pub fn ogg(packets: usize, per_page: usize) -> Bytes {
        let mut file = page(&[b"OpusHead-and-so-on".to_vec()]);
        file.extend(page(&[b"OpusTags".to_vec()]));
        // Of 255 bytes and more too: such a packet ends with a shorter segment.
        let packet = |i: usize| [vec![1 << 3, i as u8], vec![5; i % 3 * 255]].concat();
        let packets: Vec<Vec<u8>> = (0..packets).map(packet).collect();
        for some in packets.chunks(per_page) {
            file.extend(page(some));
        }
        file.into()
    }

    fn page(packets: &[Vec<u8>]) -> Vec<u8> {
        let mut table = Vec::new();
        for packet in packets {
            table.extend(std::iter::repeat_n(255, packet.len() / 255));
            table.push((packet.len() % 255) as u8);
        }
        let mut page = b"OggS".to_vec();
        page.extend([0; 22]);
        page.push(table.len() as u8);
        [page, table, packets.concat()].concat()
    }

    #[test]
    fn a_clip_is_as_long_as_its_video() {
        let clip = Clip::parse(ivf(50, &[0, 25]), Some(ogg(130, 7))).unwrap();
        assert_eq!(clip.duration(), Duration::from_secs(2));
        assert_eq!((clip.video.len(), clip.audio.len()), (50, 100));
        assert_eq!(clip.video.iter().filter(|frame| frame.key).count(), 2);
        assert_eq!(clip.audio[99].at, Duration::from_millis(1_980));
        assert_eq!(clip.audio[99].data[0][1], 99);
    }

    #[test]
    fn layers_go_together_frame_by_frame_or_not_at_all() {
        let clip = Clip::layered(vec![ivf(50, &[0, 25]), ivf(50, &[0, 25]), ivf(50, &[0, 25])], None).unwrap();
        assert_eq!(clip.layer_names(), ["q", "h", "f"]);
        assert!(clip.video.iter().all(|unit| unit.data.len() == 3));
        assert!(Clip::layered(vec![ivf(50, &[0, 25]), ivf(49, &[0, 25])], None).is_err(), "another length");
        assert!(Clip::layered(vec![ivf(50, &[0, 25]), ivf(50, &[0, 24])], None).is_err(), "another keyframe");
        assert!(Clip::layered(vec![], None).is_err() && Clip::layered(vec![ivf(2, &[0]); 4], None).is_err());
        assert!(Clip::parse(ivf(5, &[0]), None).unwrap().layer_names().is_empty());
    }

    #[test]
    fn packets_are_the_same_however_they_lie_in_pages() {
        let of = |per_page| audio_units(ogg(60, per_page)).unwrap();
        assert_eq!(of(1), of(50));
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused_and_never_panics() {
        let (video, sound) = (ivf(3, &[0]), ogg(5, 2));
        for len in 0..video.len() {
            let _ = Clip::parse(video.slice(..len), None);
        }
        for len in 0..sound.len() {
            let _ = audio_units(sound.slice(..len));
        }
        assert!(Clip::parse(ivf(3, &[1]), None).is_err(), "starts without a keyframe");
        assert!(Clip::parse(ivf(0, &[]), None).is_err(), "empty");
        assert!(Clip::parse(sound, None).is_err(), "not IVF");
    }
}
