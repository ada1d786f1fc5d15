// A small line of the last values of one figure.

const NS = 'http://www.w3.org/2000/svg';
const WIDTH = 120;
const HEIGHT = 32;

export class Spark {
  /** The element to put on the page. */
  element = document.createElementNS(NS, 'svg');
  #area = document.createElementNS(NS, 'path');
  #line = document.createElementNS(NS, 'path');
  #values = [];
  #most;

  /** `most`: how many values are kept. */
  constructor(most = 120) {
    this.#most = most;
    this.element.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute('preserveAspectRatio', 'none');
    this.element.setAttribute('class', 'spark');
    this.element.setAttribute('aria-hidden', 'true');
    this.#area.setAttribute('class', 'spark-area');
    this.#line.setAttribute('class', 'spark-line');
    this.element.append(this.#area, this.#line);
  }

  push(value) {
    this.#values.push(value);
    if (this.#values.length > this.#most) this.#values.shift();
    const top = Math.max(...this.#values, Number.EPSILON);
    const step = WIDTH / (this.#most - 1);
    const start = WIDTH - (this.#values.length - 1) * step;
    const points = this.#values.map((each, place) => {
      const y = HEIGHT - 2 - (each / top) * (HEIGHT - 6);
      return `${(start + place * step).toFixed(1)} ${y.toFixed(1)}`;
    });
    const line = `M${points.join('L')}`;
    this.#line.setAttribute('d', line);
    this.#area.setAttribute('d', `${line}L${WIDTH} ${HEIGHT}L${start.toFixed(1)} ${HEIGHT}Z`);
  }
}
