/**
 * Makes one tree equal to another with few changes, so that the user's selection and the layout survive.
 *
 * @module
 */

/**
 * Makes the children of `target`, from its child `from` on, equal to those of `source`, which is consumed.
 *
 * @param {Node} target
 * @param {Node} source
 * @param {number} [from]
 */
export function morphChildren(target, source, from = 0) {
  let old = target.childNodes[from] ?? null;
  let fresh = source.firstChild;
  while (fresh !== null) {
    const next = fresh.nextSibling;
    if (old === null) {
      target.appendChild(fresh);
    } else {
      const after = old.nextSibling;
      if (!morph(old, fresh)) target.replaceChild(fresh, old);
      old = after;
    }
    fresh = next;
  }
  while (old !== null) {
    const after = old.nextSibling;
    target.removeChild(old);
    old = after;
  }
}

/**
 * Makes a node equal to another; returns false when they are of different kinds.
 *
 * @param {Node} old
 * @param {Node} fresh
 */
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return false;
  if (old instanceof Text && fresh instanceof Text) {
    if (fresh.data === old.data) return true;
    if (fresh.data.startsWith(old.data)) old.appendData(fresh.data.slice(old.data.length));
    else old.data = fresh.data;
    return true;
  }
  if (old instanceof Element && fresh instanceof Element) {
    for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const name of fresh.getAttributeNames()) {
      const value = fresh.getAttribute(name) ?? "";
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  }
  morphChildren(old, fresh);
  return true;
}
