// The page that `dnntrain watch` serves asks for news, and is told at once when there are none.
const live = (() => {
  'use strict';

  const EVERY = 1000;

  function start(update) {
    if (!document.documentElement.dataset.live) return;
    let version = null;
    let lost = false;

    // The line is a status: it is only written when something has changed, so as not to be read out every second.
    const say = (text, isLost) => {
      const line = dom.byId('live');
      line.textContent = text;
      line.classList.toggle('lost', isLost);
      lost = isLost;
    };

    async function ask() {
      try {
        const answer = await fetch('data', { cache: 'no-store', headers: version ? { 'If-None-Match': version } : {} });
        if (answer.status === 200) {
          const fresh = await answer.json();
          version = answer.headers.get('ETag');
          update(fresh);
        } else if (answer.status !== 304) {
          throw new Error(`status ${answer.status}`);
        }
        if (lost || !dom.byId('live').textContent) say('live', false);
      } catch (error) {
        if (!lost) say('no connection to dnntrain watch; asking again', true);
        if (!(error instanceof TypeError)) console.info(error.message);
      }
      setTimeout(ask, EVERY);
    }

    ask();
  }

  return { start };
})();
