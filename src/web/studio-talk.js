// What the audience says, with what an anchor may do about it.

import { el, icon, part, setText } from './format.js';
import { showNotice } from './notice.js';
import { explain, t } from './words.js';

const byId = (id) => document.getElementById(id);

const MUTE_SECONDS = 600;

export class DeskTalk {
  #room;
  #list = part('comments');

  constructor(room) {
    this.#room = room;
    room.addEventListener('change', ({ detail }) => this.#paint(detail.changed));
    byId('comment-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#say();
    });
    byId('unpin-comment').addEventListener('click', () => this.#moderate('pin_comment'));
    byId('slow-mode').addEventListener('change', ({ target }) => {
      this.#moderate('slow_mode', { seconds: Number(target.value) });
    });
  }

  #paint(changed) {
    const { comments, pinned_comment, slow_mode } = this.#room.state;
    if (changed.has('comments')) this.#paintComments(comments);
    if (changed.has('slow_mode')) byId('slow-mode').value = String(slow_mode);
    if (changed.has('pinned_comment')) {
      byId('pinned-comment').hidden = !pinned_comment;
      setText(byId('pinned-text'), pinned_comment ? `${pinned_comment.name}: ${pinned_comment.text}` : '');
    }
  }

  #paintComments(comments) {
    const list = this.#list;
    const wasAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 48;
    const shown = new Map([...list.children].map((item) => [item.dataset.seq, item]));
    const wanted = comments.map((comment) => shown.get(String(comment.seq)) ?? this.#item(comment));
    const kept = new Set(wanted);
    for (const item of shown.values()) if (!kept.has(item)) item.remove();
    for (const [place, item] of wanted.entries()) {
      if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
    }
    if (wasAtEnd) list.scrollTop = list.scrollHeight;
  }

  #item(comment) {
    const { seq, who, name, role, text } = comment;
    const isViewer = role === 'viewer';
    const actions = el(
      'span',
      { className: 'actions' },
      this.#action('pin', 'studio_pin_comment', 'pin_comment', { comment: seq }),
      this.#action('trash', 'studio_delete', 'delete_comment', { comment: seq }),
      isViewer && this.#action('mute', 'studio_mute', 'mute', { who, seconds: MUTE_SECONDS }),
    );
    return el(
      'li',
      { className: isViewer ? 'desk-comment' : 'desk-comment team', data: { test: 'comment', seq } },
      el('span', { className: 'said' }, el('b', { textContent: name }), ' ', el('span', { textContent: text })),
      actions,
    );
  }

  #action(picture, words, action, fields) {
    const button = el('button', { className: 'round quiet', title: t(words), aria: { label: t(words) }, data: { test: action } });
    button.append(icon(picture));
    button.addEventListener('click', () => this.#moderate(action, fields));
    return button;
  }

  async #moderate(action, fields) {
    try {
      await this.#room.moderate(action, fields);
      if (action === 'mute') showNotice(t('studio_muted'));
    } catch (error) {
      showNotice(explain(error));
      byId('slow-mode').value = String(this.#room.state.slow_mode);
    }
  }

  async #say() {
    const input = part('comment-input');
    const text = input.value.trim();
    if (!text) return;
    input.value = '';
    try {
      await this.#room.comment(text);
    } catch (error) {
      input.value ||= text;
      showNotice(explain(error));
    }
  }
}
