// What is broadcast: a camera with its microphone, or a test picture with a clock and a soft tone.

import { explainCamera } from './words.js';

const WIDTH = 720;
const HEIGHT = 1280;
const FRAMES_PER_SECOND = 30;

/** Opens a camera and a microphone. Throws an Error whose message is for the anchor. */
export async function openCamera({ camera, microphone } = {}) {
  if (!navigator.mediaDevices) throw new Error(explainCamera('InsecureContext'));
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: {
        ...(camera && { deviceId: { exact: camera } }),
        width: { ideal: WIDTH },
        height: { ideal: HEIGHT },
        frameRate: { ideal: FRAMES_PER_SECOND },
      },
      audio: {
        ...(microphone && { deviceId: { exact: microphone } }),
        echoCancellation: true,
        noiseSuppression: true,
      },
    });
  } catch (error) {
    throw new Error(explainCamera(error.name));
  }
}

/** The cameras and microphones to choose from. Their names are known once one has been opened. */
export async function devices() {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const of = (kind) => all.filter((device) => device.kind === kind && device.deviceId);
  return { cameras: of('videoinput'), microphones: of('audioinput') };
}

/** Stops every track of a stream, and whatever feeds it. */
export function closeSource(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream?.feed?.stop();
}

/** A picture that shows at a glance whether it moves and how old it is. */
export function openTestPicture() {
  const canvas = document.createElement('canvas');
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const pen = canvas.getContext('2d', { alpha: false });
  const stream = canvas.captureStream(FRAMES_PER_SECOND);
  const tone = softTone();
  stream.addTrack(tone.track);

  let frame = 0;
  const metronome = new Worker('/assets/metronome.js');
  metronome.onmessage = () => draw(pen, frame++);
  metronome.postMessage(1000 / FRAMES_PER_SECOND);
  draw(pen, frame++);

  stream.getVideoTracks()[0].contentHint = 'motion';
  // Browsers keep sound off until the page is touched; the press on "Go live" is such a touch.
  stream.feed = {
    resume: () => tone.context.resume(),
    stop() {
      metronome.terminate();
      tone.context.close();
    },
  };
  return stream;
}

function draw(pen, frame) {
  const now = new Date();
  const turn = (now.getTime() % 6_000) / 6_000;
  paintBackground(pen);
  paintRail(pen, turn);
  paintClock(pen, now, frame);
}

function paintBackground(pen) {
  const sky = pen.createLinearGradient(0, 0, WIDTH, HEIGHT);
  sky.addColorStop(0, '#f0d9c4');
  sky.addColorStop(0.55, '#d9a98c');
  sky.addColorStop(1, '#7c4a3a');
  pen.fillStyle = sky;
  pen.fillRect(0, 0, WIDTH, HEIGHT);
}

/** Coloured cloths on a rail, swinging: movement that an encoder must work for. */
function paintRail(pen, turn) {
  pen.fillStyle = '#4d2d22';
  pen.fillRect(80, 250, WIDTH - 160, 10);
  for (const [place, colour] of ['#b5432f', '#e6b85c', '#5f7f6c', '#41617f', '#8d5470'].entries()) {
    const x = 130 + place * 115;
    pen.save();
    pen.translate(x, 260);
    pen.rotate(Math.sin((turn + place / 5) * Math.PI * 2) * 0.12);
    pen.fillStyle = colour;
    pen.beginPath();
    pen.roundRect(-42, 24, 84, 240, [28, 28, 10, 10]);
    pen.fill();
    pen.restore();
  }
}

function paintClock(pen, now, frame) {
  const two = (part) => String(part).padStart(2, '0');
  const time = `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
  pen.fillStyle = '#fff';
  pen.textAlign = 'center';
  pen.font = '600 132px system-ui, sans-serif';
  pen.fillText(time, WIDTH / 2, 720);
  pen.font = '500 52px ui-monospace, monospace';
  pen.fillText(`.${String(now.getMilliseconds()).padStart(3, '0')}`, WIDTH / 2, 790);
  pen.font = '500 34px system-ui, "Noto Sans CJK SC", sans-serif';
  pen.fillText('Maishou 买手 · test picture', WIDTH / 2, 870);
  pen.font = '400 28px ui-monospace, monospace';
  pen.fillText(`frame ${frame}`, WIDTH / 2, 920);
  pen.fillRect(90, 980, (WIDTH - 180) * (now.getMilliseconds() / 1000), 8);
}

/** A quiet chord that swells once in two seconds, so that one hears whether sound arrives. */
function softTone() {
  const context = new AudioContext({ sampleRate: 48_000 });
  const out = context.createMediaStreamDestination();
  const volume = context.createGain();
  volume.gain.value = 0.04;
  const swell = context.createOscillator();
  const depth = context.createGain();
  swell.frequency.value = 0.5;
  depth.gain.value = 0.03;
  swell.connect(depth).connect(volume.gain);
  swell.start();
  for (const hertz of [220, 277.18, 329.63]) {
    const voice = context.createOscillator();
    voice.frequency.value = hertz;
    voice.connect(volume);
    voice.start();
  }
  volume.connect(out);
  return { context, track: out.stream.getAudioTracks()[0] };
}
