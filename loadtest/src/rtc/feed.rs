use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{
    link::wall_time,
    show::{Shape, Show},
    terms::VIDEO_SSRC,
};

/// A [`Show`] as plain RTP, for servers that take it so.
pub struct Feed {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Feed {
    /// Sends pictures and sound to these addresses until it is dropped.
    pub fn start(shape: Shape, pictures: SocketAddr, sound: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((pictures.ip(), 0))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("feed".to_owned()).spawn(move || {
            let mut show = Show::new(shape);
            while !stopped.load(Ordering::Acquire) {
                show.play(wall_time(), false, |packet| {
                    let to = if packet[8..12] == VIDEO_SSRC.to_be_bytes() { pictures } else { sound };
                    // A server that is not there yet refuses; later packets find it.
                    let _ = socket.send_to(packet, to);
                });
                thread::park_timeout(show.next_due().saturating_sub(wall_time()));
            }
        })?;
        Ok(Self { thread: Some(thread), stop })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
