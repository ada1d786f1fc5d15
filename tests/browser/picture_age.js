// Draws a clock as bars into a picture of 640x360, sends it over the server and directly to another connection of this
// page, reads the bars of what arrives, and notes in `window.ages` how old each picture was.
async (room, anchorToken, viewerToken) => {
  const { negotiate, connected } = await import('/assets/peer.js');
  const [WIDTH, HEIGHT, BITS] = [640, 360, 20];
  const BAR = WIDTH / (BITS + 2);
  const VP8 = RTCRtpSender.getCapabilities('video').codecs.filter(({ mimeType }) => mimeType === 'video/VP8');

  const canvas = Object.assign(document.createElement('canvas'), { width: WIDTH, height: HEIGHT });
  const pen = canvas.getContext('2d', { alpha: false });
  const parity = (value) => value.toString(2).replaceAll('0', '').length % 2;
  function draw() {
    const value = Math.round(performance.now()) % (1 << BITS);
    for (let bar = 0; bar < BITS + 2; bar += 1) {
      const on = bar < BITS ? (value >> bar) & 1 : bar === BITS ? parity(value) : 1;
      pen.fillStyle = on ? '#fff' : '#000';
      pen.fillRect(bar * BAR, 0, BAR + 1, HEIGHT);
    }
    requestAnimationFrame(draw);
  }
  draw();
  const stream = canvas.captureStream(30);
  const track = stream.getVideoTracks()[0];

  const ages = (window.ages = { served: [], direct: [] });
  function show(name, received) {
    const video = Object.assign(document.createElement('video'), { muted: true, srcObject: received });
    document.body.append(video);
    const eye = Object.assign(document.createElement('canvas'), { width: WIDTH, height: 1 });
    const sight = eye.getContext('2d', { willReadFrequently: true });
    video.requestVideoFrameCallback(function seen() {
      const now = performance.now();
      sight.drawImage(video, 0, video.videoHeight / 2, video.videoWidth, 1, 0, 0, WIDTH, 1);
      const pixels = sight.getImageData(0, 0, WIDTH, 1).data;
      const isOn = (bar) => pixels[Math.floor((bar + 0.5) * BAR) * 4] > 127;
      let value = 0;
      for (let bar = 0; bar < BITS; bar += 1) value |= Number(isOn(bar)) << bar;
      const age = (now - value) % (1 << BITS);
      if (Number(isOn(BITS)) === parity(value) && isOn(BITS + 1)) ages[name].push(age);
      video.requestVideoFrameCallback(seen);
    });
    return video.play();
  }
  function sender(pc) {
    const encodings = [{ maxBitrate: 1_000_000 }];
    pc.addTransceiver(track, { direction: 'sendonly', streams: [stream], sendEncodings: encodings }).setCodecPreferences(VP8);
    return pc;
  }

  const [out, back] = [sender(new RTCPeerConnection()), new RTCPeerConnection()];
  out.onicecandidate = ({ candidate }) => candidate && back.addIceCandidate(candidate);
  back.onicecandidate = ({ candidate }) => candidate && out.addIceCandidate(candidate);
  back.ontrack = ({ streams }) => show('direct', streams[0]);
  await out.setLocalDescription();
  await back.setRemoteDescription(out.localDescription);
  await back.setLocalDescription();
  await out.setRemoteDescription(back.localDescription);

  const up = sender(new RTCPeerConnection({ bundlePolicy: 'max-bundle' }));
  await negotiate(up, new URL(`/whip/${room}`, location.href).href, anchorToken);
  const down = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  down.addTransceiver('video', { direction: 'recvonly' });
  down.ontrack = ({ track: received }) => show('served', new MediaStream([received]));
  await negotiate(down, new URL(`/whep/${room}`, location.href).href, viewerToken);
  await Promise.all([connected(up), connected(down), connected(out)]);
  window.connections = [out, back, up, down];
  return true;
}
